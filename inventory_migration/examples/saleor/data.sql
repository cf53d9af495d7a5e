-- A shop of example.records variants with orders, ids from 101 on; below that one variant, order or
-- line for each case that lost stock or its meaning in this very move. Two sites, of which neither
-- has a company address.

INSERT INTO django_site (id, domain, name)
VALUES (1, 'shop.example.com', 'The shop'), (2, 'trade.example.com', 'The shop for traders');
INSERT INTO site_sitesettings (id, site_id) VALUES (1, 1), (2, 2);

INSERT INTO shipping_shippingzone (id, name, countries, "default")
VALUES (1, 'Europe', 'DE,FR,PL', false), (2, 'Oceania', 'AU,NZ', false);
INSERT INTO shipping_shippingmethod (id, name, shipping_zone_id)
VALUES (1, 'DHL', 1), (2, 'Courier', 1), (3, 'Sea mail', 2);

INSERT INTO product_producttype (id, name, has_variants, is_shipping_required, is_digital)
VALUES (1, 'T-Shirt', true, true, false), (2, 'Coffee', true, true, false),
       (3, 'Book', false, true, false), (4, 'Download', false, false, true);

INSERT INTO product_product (id, product_type_id, name, is_published, publication_date,
                             price_amount, currency, updated_at)
SELECT 100 + p, 1 + floor(4 * pg_temp.draw(p, 'type'))::int,
       (ARRAY['Ringer', 'Mango', 'Blue', 'Monospace', 'Code', 'Épine'])
           [1 + floor(6 * pg_temp.draw(p, 'style'))::int] || ' ' ||
       (ARRAY['Tee', 'Juice', 'Hoodie', 'Beans', 'Sneakers', 'Parka'])
           [1 + floor(6 * pg_temp.draw(p, 'good'))::int] || ' ' || p,
       pg_temp.draw(p, 'published') < 0.9,
       CASE WHEN pg_temp.draw(p, 'published') < 0.9 THEN DATE '2019-11-01' END,
       round((2 + 90 * pg_temp.draw(p, 'price'))::numeric, 2), 'USD',
       TIMESTAMPTZ '2020-01-01 08:00+00'
FROM generate_series(1, 1 + current_setting('example.records')::int / 3) AS p;

INSERT INTO product_productvariant (id, sku, name, product_id, track_inventory, quantity,
                                    quantity_allocated, cost_price_amount, weight)
SELECT 100 + v, 'SKU-' || lpad(v::text, 7, '0'),
       CASE WHEN v % 3 = 0 THEN '' ELSE (ARRAY['S', 'M', 'L', 'XL', '250 g', '1 kg'])
           [1 + floor(6 * pg_temp.draw(v, 'size'))::int] END,
       101 + v / 3, pg_temp.draw(v, 'tracked') < 0.9,
       floor(400 * power(pg_temp.draw(v, 'quantity'), 2)), 0,
       round((1 + 40 * pg_temp.draw(v, 'cost'))::numeric, 2), pg_temp.draw(v, 'weight')
FROM generate_series(1, current_setting('example.records')::int) AS v;

-- The last of these products may have no variant.
DELETE FROM product_product AS p
WHERE NOT EXISTS (SELECT FROM product_productvariant AS v WHERE v.product_id = p.id);

INSERT INTO order_order (id, created, status, token, shipping_method_id)
SELECT 100 + o,
       TIMESTAMPTZ '2020-01-01 00:00+00' + INTERVAL '1 day' * (90 * pg_temp.draw(o, 'created')),
       CASE WHEN kind < 0.55 THEN 'fulfilled' WHEN kind < 0.75 THEN 'unfulfilled'
            WHEN kind < 0.85 THEN 'partially fulfilled' WHEN kind < 0.95 THEN 'canceled'
            ELSE 'draft' END,
       md5('order ' || o || ' ' || current_setting('example.seed')),
       1 + floor(3 * pg_temp.draw(o, 'method'))::int
FROM (SELECT o, pg_temp.draw(o, 'kind')
      FROM generate_series(1, current_setting('example.records')::int / 2) AS o) AS made (o, kind);

INSERT INTO order_orderline (id, order_id, variant_id, product_sku, quantity, quantity_fulfilled)
SELECT 100 + row_number() OVER (ORDER BY m.order_id, m.line), m.order_id, v.id, v.sku, m.quantity,
       CASE m.status WHEN 'fulfilled' THEN m.quantity
                     WHEN 'partially fulfilled' THEN m.quantity / 2 ELSE 0 END
FROM (SELECT o.id AS order_id, o.status, line,
             101 + floor(current_setting('example.records')::int
                         * pg_temp.draw(o.id * 8 + line, 'ordered variant'))::int AS variant_id,
             1 + floor(4 * pg_temp.draw(o.id * 8 + line, 'ordered'))::int AS quantity
      FROM order_order AS o,
           generate_series(0, floor(3 * pg_temp.draw(o.id, 'lines'))::int) AS line) AS m
JOIN product_productvariant AS v ON v.id = m.variant_id;

UPDATE product_productvariant AS v
SET quantity_allocated = l.open, quantity = greatest(v.quantity, l.open)
FROM (SELECT l.variant_id, sum(l.quantity - l.quantity_fulfilled) AS open
      FROM order_orderline AS l JOIN order_order AS o ON o.id = l.order_id
      WHERE o.status IN ('unfulfilled', 'partially fulfilled') GROUP BY 1) AS l
WHERE l.variant_id = v.id AND v.track_inventory;

-- The cases.
INSERT INTO product_product (id, product_type_id, name, is_published, price_amount, currency)
VALUES (1, 1, 'Cases', true, 9.90, 'USD');

INSERT INTO product_productvariant (id, sku, name, product_id, track_inventory, quantity,
                                    quantity_allocated)
VALUES (1, 'CASE-1', '', 1, true, -388, -389),
       (2, 'CASE-2', '', 1, true, 5, -1),
       (3, 'CASE-3', '', 1, true, 2, 5),
       (4, 'CASE-4', '', 1, true, 30, 9),
       (5, 'CASE-5', '', 1, true, 20, 4),
       (6, 'CASE-6', '', 1, true, 20, 6),
       (7, 'CASE-7', '', 1, true, 20, 0),
       (8, 'CASE-8', '', 1, true, 20, 0),
       (9, 'CASE-9', '', 1, false, 1, 0),
       (10, 'CASE-10', '', 1, true, 50, 6),
       (11, 'CASE-11', '', 1, true, 40, 7);

INSERT INTO order_order (id, created, status, token, shipping_method_id)
VALUES (1, '2020-03-01', 'unfulfilled', 'case-1', 1),
       (2, '2020-03-01', 'unfulfilled', 'case-2', NULL),
       (3, '2020-03-01', 'unfulfilled', 'case-3', 3),
       (4, '2020-03-01', 'draft', 'case-4', 1),
       (5, '2020-03-01', 'canceled', 'case-5', 1),
       (6, '2020-03-01', 'partially fulfilled', 'case-6', 2);

-- Line 7 is of a variant that was deleted; lines 9 to 11 are three of one variant.
INSERT INTO order_orderline (id, order_id, variant_id, product_sku, quantity, quantity_fulfilled)
VALUES (1, 1, 3, 'CASE-3', 5, 0),
       (2, 1, 4, 'CASE-4', 2, 0),
       (3, 2, 5, 'CASE-5', 4, 0),
       (4, 3, 6, 'CASE-6', 6, 0),
       (5, 4, 7, 'CASE-7', 3, 0),
       (6, 5, 8, 'CASE-8', 3, 0),
       (7, 1, NULL, 'CASE-GONE', 2, 0),
       (8, 1, 9, 'CASE-9', 1, 0),
       (9, 1, 10, 'CASE-10', 1, 0),
       (10, 2, 10, 'CASE-10', 2, 0),
       (11, 3, 10, 'CASE-10', 3, 0),
       (12, 6, 11, 'CASE-11', 9, 2);

SELECT setval('django_site_id_seq', 2), setval('site_sitesettings_id_seq', 2),
       setval('shipping_shippingzone_id_seq', 2), setval('shipping_shippingmethod_id_seq', 3),
       setval('product_producttype_id_seq', 4),
       setval('product_product_id_seq', (SELECT max(id) FROM product_product)),
       setval('product_productvariant_id_seq', (SELECT max(id) FROM product_productvariant)),
       setval('order_order_id_seq', (SELECT max(id) FROM order_order)),
       setval('order_orderline_id_seq', (SELECT max(id) FROM order_orderline));
