-- Once the migration is verified: an allocation for each order line that is still to be fulfilled,
-- whatever its shipping method or zone, so that the counter can go. It may be run again; the end says
-- how it is taken back. The small table that it makes is for that alone.
BEGIN;

CREATE TABLE IF NOT EXISTS warehouse_allocation_made (id integer PRIMARY KEY);
WITH made AS (
    INSERT INTO warehouse_allocation (order_line_id, stock_id, quantity_allocated)
    SELECT l.id, k.id, l.quantity - l.quantity_fulfilled
    FROM order_orderline AS l
    JOIN order_order AS o ON o.id = l.order_id
    JOIN product_productvariant AS v ON v.id = l.variant_id AND v.track_inventory
    JOIN warehouse_stock AS k ON k.product_variant_id = v.id
    JOIN warehouse_warehouse AS w ON w.id = k.warehouse_id AND w.slug = 'default-warehouse'
    WHERE o.status IN ('unfulfilled', 'partially fulfilled') AND l.quantity > l.quantity_fulfilled
    ON CONFLICT (order_line_id, stock_id) DO NOTHING
    RETURNING id)
INSERT INTO warehouse_allocation_made SELECT id FROM made;

COMMIT;

-- What is open and has none, for somebody to look at: the variant is gone, or was put aside.
SELECT l.id AS order_line, l.product_sku, l.quantity - l.quantity_fulfilled AS open
FROM order_orderline AS l
JOIN order_order AS o ON o.id = l.order_id
LEFT JOIN product_productvariant AS v ON v.id = l.variant_id
WHERE o.status IN ('unfulfilled', 'partially fulfilled') AND l.quantity > l.quantity_fulfilled
  AND v.track_inventory IS NOT FALSE
  AND NOT EXISTS (SELECT FROM warehouse_allocation AS a WHERE a.order_line_id = l.id)
ORDER BY 1;

-- To take it back, before the rollback of the stock and while Saleor 2.10 has not run yet:
--   BEGIN;
--   DELETE FROM warehouse_allocation AS a USING warehouse_allocation_made AS k WHERE k.id = a.id;
--   DROP TABLE warehouse_allocation_made;
--   COMMIT;
