-- Once the migration is verified, and before Spree 2.0 starts: what hangs on a stock location beside
-- the stock itself. It may be run again; the end says how it is taken back. The two small tables that
-- it makes are for that alone.
BEGIN;

-- Shipments that have no location leave from the default one.
CREATE TABLE IF NOT EXISTS spree_shipments_placed (id integer PRIMARY KEY);
WITH placed AS (
    UPDATE spree_shipments AS s SET stock_location_id = l.id
    FROM spree_stock_locations AS l
    WHERE l.name = 'default' AND s.stock_location_id IS NULL
    RETURNING s.id)
INSERT INTO spree_shipments_placed SELECT id FROM placed;

-- 2.0 calls a promised unit on_hand. Which ones were sold before is kept, since some are on_hand
-- already, and renaming all of them back would make those sold.
CREATE TABLE IF NOT EXISTS spree_units_sold (id integer PRIMARY KEY);
WITH renamed AS (
    UPDATE spree_inventory_units SET state = 'on_hand' WHERE state = 'sold' RETURNING id)
INSERT INTO spree_units_sold SELECT id FROM renamed;

-- Each stock item begins with a movement, so that its movements add up to its count.
INSERT INTO spree_stock_movements (stock_item_id, quantity, action, created_at, updated_at)
SELECT i.id, i.count_on_hand, 'opening', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM spree_stock_items AS i
WHERE i.count_on_hand <> 0
  AND NOT EXISTS (SELECT FROM spree_stock_movements AS m WHERE m.stock_item_id = i.id);

COMMIT;

-- To take it back, before the rollback of the stock and while Spree 2.0 has not run yet:
--   BEGIN;
--   DELETE FROM spree_stock_movements WHERE action = 'opening';
--   UPDATE spree_inventory_units AS u SET state = 'sold' FROM spree_units_sold AS k WHERE k.id = u.id;
--   DROP TABLE spree_units_sold;
--   UPDATE spree_shipments AS s SET stock_location_id = NULL
--     FROM spree_shipments_placed AS k WHERE k.id = s.id;
--   DROP TABLE spree_shipments_placed;
--   COMMIT;
