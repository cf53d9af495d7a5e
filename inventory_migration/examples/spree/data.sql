-- A shop of example.records variants with orders, ids from 101 on; below that one product for each
-- case that lost stock or its meaning in this very move.

INSERT INTO spree_products (id, name, available_on, permalink, created_at, updated_at)
SELECT 100 + p,
       (ARRAY['Classic', 'Heritage', 'Studio', 'Compact', 'Alpine', 'Crème'])
           [1 + floor(6 * pg_temp.draw(p, 'style'))::int] || ' ' ||
       (ARRAY['Tote', 'Mug', 'Jersey', 'Stein', 'Bag', 'Shirt', 'Ringer T'])
           [1 + floor(7 * pg_temp.draw(p, 'good'))::int] || ' ' || p,
       at, 'product-' || p, at, at
FROM (SELECT p, TIMESTAMP '2012-03-01 09:00' + INTERVAL '1 day' * (300 * pg_temp.draw(p, 'day'))
      FROM generate_series(1, current_setting('example.records')::int) AS p) AS made (p, at);

-- A third of the products are a master alone, the others have a master and up to four variants.
INSERT INTO spree_variants (id, sku, weight, is_master, product_id, count_on_hand, cost_price,
                            cost_currency, position, lock_version)
SELECT id,
       CASE WHEN pg_temp.draw(id, 'sku') < 0.1 THEN '' ELSE 'ROR-' || lpad(id::text, 7, '0') END,
       round((5 * pg_temp.draw(id, 'weight'))::numeric, 2),
       number = 0, 100 + p,
       CASE WHEN number = 0 AND others > 0 THEN 0
            ELSE floor(120 * power(pg_temp.draw(id, 'stock'), 2)) END,
       round((1 + 40 * pg_temp.draw(id, 'cost'))::numeric, 2), 'USD', number + 1,
       floor(9 * pg_temp.draw(id, 'lock'))
FROM (SELECT 100 + row_number() OVER (ORDER BY p, number) AS id, p, number, others
      FROM (SELECT p, CASE WHEN pg_temp.draw(p, 'single') < 0.33 THEN 0
                           ELSE 1 + floor(4 * pg_temp.draw(p, 'variants'))::int END AS others
            FROM generate_series(1, current_setting('example.records')::int) AS p) AS product,
           generate_series(0, others) AS number
      ORDER BY 1 LIMIT current_setting('example.records')::int) AS variant;

DELETE FROM spree_products AS p
WHERE id > 100 AND NOT EXISTS (SELECT FROM spree_variants AS v WHERE v.product_id = p.id);

-- An order for every second variant: shipped, open, or a cart that nobody has completed.
INSERT INTO spree_orders (id, number, state, completed_at, shipment_state, created_at, updated_at)
SELECT 100 + o, 'R' || lpad((100000000 + o)::text, 9, '0'),
       CASE WHEN kind < 0.9 THEN 'complete' ELSE 'cart' END,
       CASE WHEN kind < 0.9 THEN at END,
       CASE WHEN kind < 0.6 THEN 'shipped' WHEN kind < 0.9 THEN 'ready' END,
       at, at
FROM (SELECT o, pg_temp.draw(o, 'kind'),
             TIMESTAMP '2013-01-01 08:00' + INTERVAL '1 day' * (120 * pg_temp.draw(o, 'ordered'))
      FROM generate_series(1, current_setting('example.records')::int / 2) AS o) AS made (o, kind, at);

-- Nobody buys a master that has variants.
INSERT INTO spree_line_items (id, variant_id, order_id, quantity, price, created_at, updated_at)
SELECT 100 + row_number() OVER (ORDER BY o.id, line), v.id, o.id,
       1 + floor(3 * pg_temp.draw(o.id * 8 + line, 'quantity'))::int,
       round((2 + 60 * pg_temp.draw(o.id * 8 + line, 'price'))::numeric, 2),
       o.created_at, o.created_at
FROM spree_orders AS o
CROSS JOIN generate_series(0, floor(3 * pg_temp.draw(o.id, 'lines'))::int) AS line
JOIN spree_variants AS v
  ON v.id = 101 + floor(current_setting('example.records')::int
                        * pg_temp.draw(o.id * 8 + line, 'ordered variant'))::int
WHERE o.id > 100
  AND NOT (v.is_master AND EXISTS (SELECT FROM spree_variants AS x
                                   WHERE x.product_id = v.product_id AND NOT x.is_master));

INSERT INTO spree_shipments (id, number, cost, shipped_at, order_id, state, created_at, updated_at)
SELECT o.id, 'H' || substr(o.number, 2), 5,
       CASE WHEN o.shipment_state = 'shipped' THEN o.completed_at + INTERVAL '2 days' END,
       o.id, o.shipment_state, o.created_at, o.created_at
FROM spree_orders AS o WHERE o.completed_at IS NOT NULL;

-- One variant in fifty is sold beyond its stock.
INSERT INTO spree_inventory_units (id, state, variant_id, order_id, shipment_id, created_at,
                                   updated_at)
SELECT 100 + row_number() OVER (ORDER BY l.id, unit),
       CASE WHEN o.shipment_state = 'shipped' THEN 'shipped'
            WHEN pg_temp.draw(l.variant_id, 'oversold') < 0.02 THEN 'backordered'
            ELSE 'sold' END,
       l.variant_id, o.id, o.id, o.created_at, o.created_at
FROM spree_line_items AS l
JOIN spree_orders AS o ON o.id = l.order_id AND o.completed_at IS NOT NULL,
     generate_series(1, l.quantity) AS unit;

UPDATE spree_variants AS v SET count_on_hand = -u.units
FROM (SELECT variant_id, count(*) AS units FROM spree_inventory_units
      WHERE state = 'backordered' GROUP BY 1) AS u
WHERE u.variant_id = v.id;

-- The cases.
INSERT INTO spree_products (id, name, available_on, deleted_at, permalink, on_demand, created_at,
                            updated_at)
SELECT n, 'Case ' || n, TIMESTAMP '2012-06-01', CASE WHEN n = 5 THEN TIMESTAMP '2013-02-01' END,
       'case-' || n, n = 8, TIMESTAMP '2012-06-01', TIMESTAMP '2012-06-01'
FROM generate_series(1, 18) AS n WHERE n NOT IN (6, 7, 10);

INSERT INTO spree_variants (id, sku, product_id, is_master, count_on_hand, on_demand, deleted_at,
                            position)
VALUES (1, 'CASE-1', 1, true, NULL, false, NULL, 1),
       (2, 'CASE-2', 2, true, -3, false, NULL, 1),
       (3, 'CASE-3', 3, true, -4, false, NULL, 1),
       (4, 'CASE-4', 4, true, 7, false, '2013-01-15', 1),
       (5, 'CASE-5', 5, true, 6, false, NULL, 1),
       (6, 'CASE-6', NULL, true, 5, false, NULL, 1),
       (7, 'CASE-7', 99, true, 5, false, NULL, 1),
       (8, 'CASE-8', 8, true, 999, true, NULL, 1),
       (9, 'CASE-9', 9, true, 10, false, NULL, 1),
       (10, 'CASE-10', 9, false, 4, false, NULL, 2),
       (11, 'CASE-11', 11, true, 8, false, NULL, 1),
       (12, '', 12, true, 2, false, NULL, 1),
       (13, '', 13, true, 3, false, NULL, 1),
       (14, 'CASE-TWICE', 14, true, 11, false, NULL, 1),
       (15, 'CASE-TWICE', 15, true, 12, false, NULL, 1),
       (16, 'CASE-16', 16, true, 10, false, NULL, 1),
       (17, 'CASE-17', 17, true, 1, false, NULL, 1),
       (18, 'CASE-18', 18, true, 20, NULL, NULL, 1);

INSERT INTO spree_orders (id, number, state, completed_at, shipment_state, created_at, updated_at)
VALUES (1, 'R000000001', 'complete', '2013-03-01', 'backorder', '2013-03-01', '2013-03-01'),
       (2, 'R000000002', 'complete', '2013-03-02', 'ready', '2013-03-02', '2013-03-02');
INSERT INTO spree_line_items (id, variant_id, order_id, quantity, price, created_at, updated_at)
VALUES (1, 2, 1, 3, 9.90, '2013-03-01', '2013-03-01'),
       (2, 16, 2, 3, 9.90, '2013-03-02', '2013-03-02'),
       (3, 17, 2, 1, 9.90, '2013-03-02', '2013-03-02');
INSERT INTO spree_shipments (id, number, cost, order_id, state, created_at, updated_at)
VALUES (1, 'H000000001', 5, 1, 'pending', '2013-03-01', '2013-03-01'),
       (2, 'H000000002', 5, 2, 'ready', '2013-03-02', '2013-03-02');
INSERT INTO spree_inventory_units (id, state, variant_id, order_id, shipment_id, created_at,
                                   updated_at)
SELECT unit, CASE WHEN unit < 4 THEN 'backordered' WHEN unit < 7 THEN 'sold' ELSE 'on_hand' END,
       CASE WHEN unit < 4 THEN 2 WHEN unit < 7 THEN 16 ELSE 17 END,
       CASE WHEN unit < 4 THEN 1 ELSE 2 END, CASE WHEN unit < 4 THEN 1 ELSE 2 END,
       TIMESTAMP '2013-03-02', TIMESTAMP '2013-03-02'
FROM generate_series(1, 7) AS unit;

-- The cached sum of a product, which is out of date for product 11.
UPDATE spree_products AS p
SET count_on_hand = CASE WHEN p.id = 11 THEN 50 ELSE (
        SELECT COALESCE(sum(v.count_on_hand) FILTER (WHERE NOT v.is_master), max(v.count_on_hand), 0)
        FROM spree_variants AS v WHERE v.product_id = p.id AND v.deleted_at IS NULL) END;

SELECT setval('spree_products_id_seq', (SELECT max(id) FROM spree_products)),
       setval('spree_variants_id_seq', (SELECT max(id) FROM spree_variants)),
       setval('spree_orders_id_seq', (SELECT max(id) FROM spree_orders)),
       setval('spree_line_items_id_seq', (SELECT max(id) FROM spree_line_items)),
       setval('spree_shipments_id_seq', (SELECT max(id) FROM spree_shipments)),
       setval('spree_inventory_units_id_seq', (SELECT max(id) FROM spree_inventory_units));
