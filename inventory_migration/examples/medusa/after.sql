-- Once the migration is verified, and before Medusa 1.8 starts: a reservation for each order line
-- that is still to be fulfilled, and the store's default location. It may be run again; the end says
-- how it is taken back.
BEGIN;

INSERT INTO reservation_item (id, line_item_id, inventory_item_id, location_id, quantity)
SELECT 'resitem_moved_' || md5(i.id), i.id, k.inventory_item_id, e.location_id,
       i.quantity - COALESCE(i.fulfilled_quantity, 0)
FROM line_item AS i
JOIN "order" AS o ON o.id = i.order_id AND o.canceled_at IS NULL
JOIN product_variant_inventory_item AS k ON k.variant_id = i.variant_id AND k.deleted_at IS NULL
JOIN inventory_level AS e ON e.inventory_item_id = k.inventory_item_id AND e.deleted_at IS NULL
JOIN stock_location AS l ON l.id = e.location_id AND l.name = 'Default'
WHERE i.quantity > COALESCE(i.fulfilled_quantity, 0)
  AND EXISTS (SELECT FROM product_variant AS v
              WHERE v.id = i.variant_id AND v.manage_inventory AND v.deleted_at IS NULL)
  AND NOT EXISTS (SELECT FROM reservation_item AS r
                  WHERE r.line_item_id = i.id AND r.deleted_at IS NULL);

UPDATE store SET default_location_id = l.id
FROM stock_location AS l
WHERE l.name = 'Default' AND l.deleted_at IS NULL AND store.default_location_id IS NULL;

COMMIT;

-- Items whose reservations and level do not agree, for somebody to look at.
SELECT e.inventory_item_id, e.reserved_quantity, COALESCE(sum(r.quantity), 0) AS reservations
FROM inventory_level AS e
LEFT JOIN reservation_item AS r
       ON r.inventory_item_id = e.inventory_item_id AND r.location_id = e.location_id
      AND r.deleted_at IS NULL
GROUP BY e.id, e.inventory_item_id, e.reserved_quantity
HAVING e.reserved_quantity <> COALESCE(sum(r.quantity), 0)
ORDER BY 1;

-- To take it back, before the rollback of the stock and while Medusa 1.8 has not run yet:
--   BEGIN;
--   UPDATE store SET default_location_id = NULL
--     WHERE default_location_id IN (SELECT id FROM stock_location WHERE name = 'Default');
--   DELETE FROM reservation_item WHERE id LIKE 'resitem\_moved\_%';
--   COMMIT;
