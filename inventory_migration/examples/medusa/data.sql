-- A shop of example.records variants with orders; beside them one variant for each case that lost
-- stock or its meaning in this very move, with keys such as variant_case_01. Keys are made like
-- those of the application: a prefix, then text that sorts as text.

INSERT INTO store (id, name) VALUES ('store_01', 'The shop');
INSERT INTO sales_channel (id, name, is_disabled, deleted_at)
VALUES ('sc_01', 'Web', false, NULL), ('sc_02', 'Marketplace', false, NULL),
       ('sc_03', 'Fax', false, '2022-01-01');
-- Two locations, of which neither is said to be the default.
INSERT INTO stock_location (id, name) VALUES ('sloc_01', 'Berlin'), ('sloc_02', 'Hamburg');

INSERT INTO product (id, title, handle, is_giftcard, status)
SELECT 'prod_' || upper(md5(p || ' ' || current_setting('example.seed'))),
       (ARRAY['Medusa', 'Classic', 'Organic', 'Nordic', 'Été'])
           [1 + floor(5 * pg_temp.draw(p, 'style'))::int] || ' ' ||
       (ARRAY['T-Shirt', 'Sweatshirt', 'Coffee Mug', 'Shorts', 'Hoodie'])
           [1 + floor(5 * pg_temp.draw(p, 'good'))::int] || ' ' || p,
       'product-' || p, pg_temp.draw(p, 'gift card') < 0.01, 'published'
FROM generate_series(0, current_setting('example.records')::int / 4) AS p;

INSERT INTO product_sales_channel (product_id, sales_channel_id) SELECT id, 'sc_01' FROM product;

INSERT INTO product_variant (id, title, product_id, sku, inventory_quantity, allow_backorder,
                             manage_inventory, origin_country, material, weight, deleted_at)
SELECT 'variant_' || upper(md5(v || ' ' || current_setting('example.seed'))),
       (ARRAY['S', 'M', 'L', 'XL'])[1 + v % 4],
       'prod_' || upper(md5(v / 4 || ' ' || current_setting('example.seed'))),
       CASE WHEN pg_temp.draw(v, 'sku') < 0.85 THEN 'MED-' || lpad(v::text, 7, '0') END,
       floor(200 * power(pg_temp.draw(v, 'quantity'), 2)), pg_temp.draw(v, 'backorder') < 0.2,
       pg_temp.draw(v, 'managed') < 0.9,
       CASE WHEN pg_temp.draw(v, 'origin') < 0.5 THEN 'pt' END,
       CASE WHEN pg_temp.draw(v, 'origin') < 0.5 THEN 'cotton' END,
       100 + floor(900 * pg_temp.draw(v, 'weight')),
       CASE WHEN pg_temp.draw(v, 'deleted') < 0.03 THEN TIMESTAMPTZ '2023-01-01 00:00+00' END
FROM generate_series(1, current_setting('example.records')::int) AS v;

INSERT INTO "order" (id, status, fulfillment_status, created_at, canceled_at)
SELECT 'order_' || upper(md5(o || ' ' || current_setting('example.seed'))),
       CASE WHEN kind < 0.5 THEN 'completed' WHEN kind < 0.9 THEN 'pending' ELSE 'canceled' END,
       CASE WHEN kind < 0.5 THEN 'fulfilled' WHEN kind < 0.8 THEN 'not_fulfilled'
            WHEN kind < 0.9 THEN 'partially_fulfilled' ELSE 'canceled' END,
       at, CASE WHEN kind >= 0.9 THEN at + INTERVAL '1 day' END
FROM (SELECT o, pg_temp.draw(o, 'kind'),
             TIMESTAMPTZ '2023-01-01 00:00+00'
             + INTERVAL '1 day' * (80 * pg_temp.draw(o, 'ordered'))
      FROM generate_series(1, current_setting('example.records')::int / 2) AS o) AS made (o, kind, at);

-- Two lines to an order, of which half are fulfilled where a part of the order is.
INSERT INTO line_item (id, order_id, variant_id, title, quantity, fulfilled_quantity)
SELECT 'item_' || upper(md5(m.o || ' ' || m.line || ' ' || current_setting('example.seed'))),
       o.id, v.id, v.title, m.quantity,
       CASE o.fulfillment_status WHEN 'fulfilled' THEN m.quantity
                                 WHEN 'partially_fulfilled' THEN m.quantity / 2 END
FROM (SELECT o, line, 1 + floor(3 * pg_temp.draw(2 * o + line, 'quantity'))::int AS quantity,
             1 + floor(current_setting('example.records')::int
                       * pg_temp.draw(2 * o + line, 'ordered variant'))::int AS v
      FROM generate_series(1, current_setting('example.records')::int / 2) AS o,
           generate_series(0, 1) AS line) AS m
JOIN "order" AS o ON o.id = 'order_' || upper(md5(m.o || ' ' || current_setting('example.seed')))
JOIN product_variant AS v
  ON v.id = 'variant_' || upper(md5(m.v || ' ' || current_setting('example.seed')));

-- The cases.
INSERT INTO product (id, title, is_giftcard, status)
VALUES ('prod_case', 'Cases', false, 'published'), ('prod_case_gift', 'Gift card', true, 'published');
INSERT INTO product_sales_channel (product_id, sales_channel_id)
VALUES ('prod_case', 'sc_01'), ('prod_case_gift', 'sc_02');

INSERT INTO product_variant (id, title, product_id, sku, inventory_quantity, allow_backorder,
                             manage_inventory, deleted_at)
VALUES ('variant_case_01', 'Case 1', 'prod_case', 'CASE-01', -3, true, true, NULL),
       ('variant_case_02', 'Case 2', 'prod_case', 'CASE-02', -2, false, true, NULL),
       ('variant_case_03', 'Case 3', 'prod_case', 'CASE-03', 7, false, true, NULL),
       ('variant_case_04', 'Case 4', 'prod_case', 'CASE-SHARED', 9, false, true, '2023-01-01'),
       ('variant_case_05', 'Case 5', 'prod_case', 'CASE-SHARED', 3, false, true, NULL),
       ('variant_case_06', 'Case 6', 'prod_case', 'CASE-06', 8, false, true, NULL),
       ('variant_case_07', 'Case 7', 'prod_case', 'CASE-07', 100, false, false, NULL),
       ('variant_case_08', 'Case 8', 'prod_case_gift', 'CASE-08', 50, false, true, NULL),
       ('variant_case_09', 'Case 9', 'prod_case', NULL, 1, false, true, NULL),
       ('variant_case_10', 'Case 10', 'prod_case', NULL, 2, false, true, NULL),
       ('variant_case_11', 'Case 11', 'prod_case', 'CASE-11', 6, false, true, NULL),
       ('variant_case_12', 'Case 12', 'prod_case', 'CASE-12', 6, false, true, NULL),
       ('variant_case_13', 'Case 13', 'prod_case', 'CASE-13', 4, false, true, NULL),
       ('variant_case_14', 'Case 14', 'prod_case', 'CASE-14', 4, false, true, NULL),
       ('variant_case_15', 'Case 15', 'prod_case', 'CASE-15', 12, false, true, NULL),
       ('variant_case_16', 'Case 16', 'prod_case', 'CASE-16', 5, false, true, NULL);

INSERT INTO "order" (id, status, fulfillment_status, canceled_at)
VALUES ('order_case_1', 'pending', 'partially_fulfilled', NULL),
       ('order_case_2', 'canceled', 'canceled', '2023-03-01');
INSERT INTO line_item (id, order_id, cart_id, variant_id, title, quantity, fulfilled_quantity)
VALUES ('item_case_1', 'order_case_1', NULL, 'variant_case_01', 'Case 1', 5, NULL),
       ('item_case_2', 'order_case_1', NULL, 'variant_case_03', 'Case 3', 6, 2),
       ('item_case_3', 'order_case_2', NULL, 'variant_case_16', 'Case 16', 2, NULL),
       ('item_case_4', NULL, 'cart_case', 'variant_case_16', 'Case 16', 1, NULL);

-- What other paths have left: an item that no variant has, and links, with a level or without.
INSERT INTO inventory_item (id, sku)
VALUES ('iitem_case_06', 'CASE-06'), ('iitem_case_11', 'CASE-11'), ('iitem_case_12', 'CASE-12'),
       ('iitem_case_13', 'CASE-13'), ('iitem_case_15a', NULL), ('iitem_case_15b', NULL);
INSERT INTO product_variant_inventory_item (id, variant_id, inventory_item_id, required_quantity)
VALUES ('pvitem_case_11', 'variant_case_11', 'iitem_case_11', 1),
       ('pvitem_case_12', 'variant_case_12', 'iitem_case_12', 1),
       ('pvitem_case_13', 'variant_case_13', 'iitem_case_13', 1),
       ('pvitem_case_14', 'variant_case_14', 'iitem_case_13', 1),
       ('pvitem_case_15a', 'variant_case_15', 'iitem_case_15a', 1),
       ('pvitem_case_15b', 'variant_case_15', 'iitem_case_15b', 2);
INSERT INTO inventory_level (id, inventory_item_id, location_id, stocked_quantity)
VALUES ('ilev_case_12', 'iitem_case_12', 'sloc_01', 5);
