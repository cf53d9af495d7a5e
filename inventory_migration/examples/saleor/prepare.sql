-- Before `inventory-migration run`: a warehouse needs an address, and where no site has that of its
-- company, there is none. Inserts one, once.
INSERT INTO account_address (company_name, street_address_1, city, postal_code, country)
SELECT 'Default warehouse', '', '', '', ''
WHERE NOT EXISTS (SELECT FROM site_sitesettings WHERE company_address_id IS NOT NULL)
  AND NOT EXISTS (SELECT FROM account_address WHERE company_name = 'Default warehouse');

-- To take it back, after the rollback of the stock:
--   DELETE FROM account_address AS a WHERE company_name = 'Default warehouse'
--     AND NOT EXISTS (SELECT FROM warehouse_warehouse AS w WHERE w.address_id = a.id);
