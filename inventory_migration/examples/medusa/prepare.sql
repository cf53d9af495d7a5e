-- Before `inventory-migration run`, and again where variants have come since: Medusa keeps levels of
-- inventory items, so each variant that is counted needs an item and a link to it. It may be run any
-- number of times; the end says how it is taken back. Keys are made of the variant's, so that what
-- was made here can be told.
BEGIN;

-- Counted, and without a link: those are to get an item.
CREATE TEMPORARY TABLE without_item ON COMMIT DROP AS
SELECT v.id AS variant_id, v.sku, md5(v.id) AS hash
FROM product_variant AS v
WHERE v.manage_inventory AND v.deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM product_variant_inventory_item AS k
                  WHERE k.variant_id = v.id AND k.deleted_at IS NULL);

-- An item of the same SKU that belongs to nobody is the variant's own, from some other path.
INSERT INTO product_variant_inventory_item (id, variant_id, inventory_item_id, required_quantity)
SELECT 'pvitem_prepared_' || w.hash, w.variant_id, i.id, 1
FROM without_item AS w
JOIN inventory_item AS i ON i.sku = w.sku AND i.deleted_at IS NULL
WHERE NOT EXISTS (SELECT FROM product_variant_inventory_item AS k WHERE k.inventory_item_id = i.id);

-- All others get an item. One whose SKU belongs to another variant's item gets it without the SKU,
-- which may stand once only. A gift card is not shipped.
INSERT INTO inventory_item (id, sku, origin_country, hs_code, mid_code, material, weight, length,
                            height, width, requires_shipping)
SELECT 'iitem_prepared_' || w.hash,
       CASE WHEN NOT EXISTS (SELECT FROM inventory_item AS i
                             WHERE i.sku = v.sku AND i.deleted_at IS NULL) THEN v.sku END,
       v.origin_country, v.hs_code, v.mid_code, v.material, v.weight, v.length, v.height, v.width,
       NOT p.is_giftcard
FROM without_item AS w
JOIN product_variant AS v ON v.id = w.variant_id
JOIN product AS p ON p.id = v.product_id
WHERE NOT EXISTS (SELECT FROM product_variant_inventory_item AS k
                  WHERE k.variant_id = w.variant_id AND k.deleted_at IS NULL)
ON CONFLICT (id) DO NOTHING;

INSERT INTO product_variant_inventory_item (id, variant_id, inventory_item_id, required_quantity)
SELECT 'pvitem_prepared_' || w.hash, w.variant_id, 'iitem_prepared_' || w.hash, 1
FROM without_item AS w
WHERE NOT EXISTS (SELECT FROM product_variant_inventory_item AS k
                  WHERE k.variant_id = w.variant_id AND k.deleted_at IS NULL)
ON CONFLICT (variant_id, inventory_item_id) DO NOTHING;

COMMIT;

-- To take it back, after the rollback of the stock and while Medusa 1.8 has not run yet:
--   BEGIN;
--   DELETE FROM product_variant_inventory_item WHERE id LIKE 'pvitem\_prepared\_%';
--   DELETE FROM inventory_item WHERE id LIKE 'iitem\_prepared\_%';
--   COMMIT;
