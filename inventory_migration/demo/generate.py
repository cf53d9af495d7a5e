"""What stands in a clean demo: companies, products, stock, orders; tenants, stores, batches.

Set-based statements only, one or two per table. Chance is a hash of key, stream and seed, so that
the same seed makes the same data on any server, whatever the plan. Defects do not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from inventory_migration.demo import names

# The statuses of orders whose lines are still to be taken from stock.
OPEN_ORDER_STATUSES = ("pending", "paid")

# Ids that companies once had which are gone since: what stock and locations of no company point to.
DELETED_COMPANIES = 5


@dataclass(frozen=True)
class DemoSize:
    """How many of everything there are.

    Attributes:
        companies: Companies in total.
        stocked: Companies that have stock, the first ones; the others are new and have none.
        items: Stock items in total.
    """

    companies: int
    stocked: int
    items: int

    @property
    def products(self) -> int:
        """Three stock items to a product, and a product for every company that can have one."""
        return max(-(-self.items // 3), min(self.stocked, self.items))

    @property
    def tenants(self) -> int:
        """One tenant to five companies."""
        return -(-self.companies // 5)

    @property
    def batches(self) -> int:
        """One inventory batch to ten stock items."""
        return -(-self.items // 10)


_FUNCTIONS = """
CREATE FUNCTION pg_temp.demo_draw(key bigint, stream text, seed bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT (hashint8extended(key, hashtextextended(stream, seed)) & 9007199254740991)
        / 9007199254740992.0::double precision
$$;

CREATE FUNCTION pg_temp.demo_pick(key bigint, stream text, seed bigint, choices text[])
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT choices[1 + floor(pg_temp.demo_draw(key, stream, seed) * cardinality(choices))::int]
$$;

-- 25 characters, as the keys that Prisma makes.
CREATE FUNCTION pg_temp.demo_cuid(key bigint, stream text, seed bigint) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT left('cm'
        || lpad(to_hex(hashint8extended(key, hashtextextended(stream, seed))), 16, '0')
        || lpad(to_hex(hashint8extended(key, hashtextextended(stream || ' tail', seed))), 16, '0')
    , 25)
$$;
"""

_DROP_FUNCTIONS = """
DROP FUNCTION pg_temp.demo_pick(bigint, text, bigint, text[]);
DROP FUNCTION pg_temp.demo_cuid(bigint, text, bigint);
DROP FUNCTION pg_temp.demo_draw(bigint, text, bigint);
"""

_COMPANIES = """
INSERT INTO public.companies (id, name, slug, created_at)
SELECT
    id,
    name,
    trim(BOTH '-' FROM regexp_replace(
        lower(translate(replace(name, '''', ''), :accented, :plain)), '[^a-z0-9]+', '-', 'g'
    )) || '-' || id,
    TIMESTAMPTZ '2022-12-01 08:00+00' + INTERVAL '30 days' * (id::float8 / :companies)
FROM (
    SELECT
        id,
        pg_temp.demo_pick(id, 'family', :seed, :families) || ' '
            || pg_temp.demo_pick(id, 'trade', :seed, :trades)
            || pg_temp.demo_pick(id, 'form', :seed, :forms) AS name
    FROM generate_series(1, :companies) AS id
) AS named
"""

# Sizes follow Zipf: the largest company has about 1 / ln(companies) of everything, the median few.
# The first products go round, so that no company is left without. Every company numbers its
# products itself, so that companies share SKUs.
_PRODUCT_LIST = """
CREATE TEMPORARY TABLE demo_product ON COMMIT DROP AS
WITH ranked AS (
    SELECT id, row_number() OVER (ORDER BY pg_temp.demo_draw(id, 'size', :seed), id) AS rank
    FROM generate_series(1, :stocked) AS id
),
running AS (
    SELECT id, rank, sum(1::float8 / rank) OVER (ORDER BY rank) AS upto FROM ranked
),
shares AS (
    SELECT
        array_agg(id ORDER BY rank) AS owners,
        array_agg(upto - 1::float8 / rank ORDER BY rank) AS lower_bounds,
        max(upto) AS total
    FROM running
),
owned AS (
    SELECT p AS id, CASE
        WHEN p <= :stocked THEN p
        ELSE owners[width_bucket(pg_temp.demo_draw(p, 'owner', :seed) * total, lower_bounds)]
    END AS company_id
    FROM generate_series(1, :products) AS p
    CROSS JOIN shares
)
SELECT id, company_id, row_number() OVER (PARTITION BY company_id ORDER BY id) AS number
FROM owned
"""

_PRODUCTS = """
INSERT INTO public.products (id, company_id, name, created_at)
SELECT
    id,
    company_id,
    pg_temp.demo_pick(id, 'style', :seed, :styles) || ' '
        || pg_temp.demo_pick(id, 'goods', :seed, :goods),
    TIMESTAMPTZ '2023-01-02 08:00+00' + INTERVAL '900 days' * (id::float8 / :products)
FROM pg_temp.demo_product
ORDER BY id
"""

# The variants of product p are the items p, p + products, p + 2 * products. So item n <= stocked
# belongs to company n.
_ITEMS = """
CREATE TEMPORARY TABLE demo_item ON COMMIT DROP AS
SELECT
    i.id,
    p.id AS product_id,
    p.company_id,
    p.number,
    (i.id - 1) / :products AS variant,
    CASE
        WHEN pg_temp.demo_draw(i.id, 'sold out', :seed) < 0.08 THEN 0
        ELSE 1 + floor(400 * power(pg_temp.demo_draw(i.id, 'quantity', :seed), 3))::int
    END AS quantity
FROM generate_series(1, :items) AS i (id)
JOIN pg_temp.demo_product AS p ON p.id = 1 + (i.id - 1) % :products
"""

# All lines of an item together never exceed its quantity, so neither does what the open ones
# reserve. Consecutive lines of a company fall into one basket until a new one starts.
_LINES = """
CREATE TEMPORARY TABLE demo_line ON COMMIT DROP AS
SELECT
    key,
    item_id,
    company_id,
    1 + floor(pg_temp.demo_draw(key, 'ordered', :seed) * least(6, quantity / lines))::int
        AS quantity,
    count(*) FILTER (WHERE pg_temp.demo_draw(key, 'starts', :seed) < 0.4)
        OVER (PARTITION BY company_id ORDER BY pg_temp.demo_draw(key, 'basket', :seed), key)
        AS basket
FROM (
    SELECT 2 * i.id + line AS key, i.id AS item_id, i.company_id, i.quantity, i.lines, line
    FROM (
        SELECT id, company_id, quantity, least(quantity, CASE
            WHEN pg_temp.demo_draw(id, 'lines', :seed) < 0.10 THEN 2
            WHEN pg_temp.demo_draw(id, 'lines', :seed) < 0.35 THEN 1
            ELSE 0
        END) AS lines
        FROM pg_temp.demo_item
    ) AS i
    JOIN (VALUES (0), (1)) AS numbers (line) ON line < i.lines
) AS ordered
"""

_BASKETS = """
CREATE TEMPORARY TABLE demo_order ON COMMIT DROP AS
SELECT
    row_number() OVER (ORDER BY ordered_at, key) AS id,
    company_id,
    basket,
    CASE
        WHEN pg_temp.demo_draw(key, 'cancelled', :seed) < 0.05 THEN 'cancelled'
        WHEN ordered_at > TIMESTAMPTZ '2025-07-17 08:00+00'
            OR pg_temp.demo_draw(key, 'back order', :seed) < 0.03
            THEN pg_temp.demo_pick(key, 'open', :seed, :open_statuses)
        WHEN ordered_at > TIMESTAMPTZ '2025-06-30 08:00+00' THEN 'shipped'
        ELSE 'delivered'
    END AS status,
    ordered_at
FROM (
    SELECT company_id, basket, key, date_trunc('second',
        TIMESTAMPTZ '2025-07-31 08:00+00'
            - INTERVAL '365 days' * power(pg_temp.demo_draw(key, 'age', :seed), 2)
    ) AS ordered_at
    FROM (
        SELECT company_id, basket, min(key) AS key
        FROM pg_temp.demo_line
        GROUP BY company_id, basket
    ) AS baskets
) AS dated
"""

_ORDERS = """
INSERT INTO public.orders (id, company_id, status, ordered_at)
SELECT id, company_id, status, ordered_at FROM pg_temp.demo_order ORDER BY id
"""

_ORDER_LINES = """
INSERT INTO public.order_lines (id, order_id, stock_item_id, quantity)
SELECT row_number() OVER (ORDER BY o.id, l.key), o.id, l.item_id, l.quantity
FROM pg_temp.demo_line AS l
JOIN pg_temp.demo_order AS o USING (company_id, basket)
"""

_STOCK_ITEMS = """
INSERT INTO public.stock_items
    (id, company_id, product_id, sku, name, quantity, reserved_quantity, created_at, updated_at)
SELECT
    i.id,
    i.company_id,
    i.product_id,
    pg_temp.demo_pick(i.product_id, 'goods', :seed, :codes) || '-'
        || lpad(i.number::text, greatest(5, length(i.number::text)), '0')
        || '-' || chr(65 + i.variant::int),
    p.name || ', ' || pg_temp.demo_pick(
        i.product_id, 'variant' || i.variant, :seed, :variants
    ),
    i.quantity,
    coalesce(r.reserved, 0),
    p.created_at,
    p.created_at + INTERVAL '35 days' * pg_temp.demo_draw(i.id, 'updated', :seed)
FROM pg_temp.demo_item AS i
JOIN public.products AS p ON p.id = i.product_id
LEFT JOIN (
    SELECT l.stock_item_id, sum(l.quantity) AS reserved
    FROM public.order_lines AS l
    JOIN public.orders AS o ON o.id = l.order_id
    WHERE o.status = ANY (:open_statuses)
    GROUP BY l.stock_item_id
) AS r ON r.stock_item_id = i.id
"""

_TENANTS = """
INSERT INTO public."Tenant" (id, name)
SELECT pg_temp.demo_cuid(c.id, 'tenant', :seed), c.name
FROM public.companies AS c
WHERE c.id <= :tenants
"""

_STORES = """
INSERT INTO public."Store" (id, "tenantId", name, "isMain")
SELECT
    pg_temp.demo_cuid(4 * t + number, 'store', :seed),
    pg_temp.demo_cuid(t, 'tenant', :seed),
    CASE number
        WHEN 0 THEN 'Main store'
        ELSE pg_temp.demo_pick(4 * t + number, 'store name', :seed, :stores)
    END,
    number = 0
FROM generate_series(1, :tenants) AS t
JOIN generate_series(0, 3) AS number
    ON number <= floor(4 * pg_temp.demo_draw(t, 'stores', :seed))
"""

_BATCHES = """
INSERT INTO public."InventoryBatch" (
    id, "tenantId", "productId", "batchNumber", "remainingQuantity", "reservedQuantity",
    "createdAt", "updatedAt"
)
SELECT
    pg_temp.demo_cuid(b, 'batch', :seed),
    pg_temp.demo_cuid(t, 'tenant', :seed),
    pg_temp.demo_cuid(
        1000 * t + floor(1000 * pg_temp.demo_draw(b, 'batch product', :seed))::bigint,
        'tenant product', :seed
    ),
    'LOT-' || to_char(created, 'YYMM') || '-' || lpad(b::text, greatest(6, length(b::text)), '0'),
    remaining,
    floor(least(remaining, 40) * power(pg_temp.demo_draw(b, 'batch reserved', :seed), 4))::int,
    created,
    created
FROM (
    SELECT
        b,
        CASE
            WHEN b <= :tenants THEN b
            ELSE 1 + floor(:tenants * power(pg_temp.demo_draw(b, 'batch owner', :seed), 2))::bigint
        END AS t,
        floor(1500 * power(pg_temp.demo_draw(b, 'remaining', :seed), 2))::int AS remaining,
        TIMESTAMP '2024-01-02 08:00' + INTERVAL '500 days' * (b::float8 / :batches) AS created
    FROM generate_series(1, :batches) AS b
) AS batch
"""

_SEQUENCE = sa.text("SELECT setval(pg_get_serial_sequence(:table, 'id'), :used)")


def fill_tables(connection: sa.Connection, size: DemoSize, seed: int) -> None:
    """Fill the empty tables; `demo_item` and other temporary tables stay until the commit."""
    connection.execute(sa.text(_FUNCTIONS))
    values = {
        "seed": seed,
        "companies": size.companies,
        "stocked": size.stocked,
        "products": size.products,
        "items": size.items,
        "tenants": size.tenants,
        "batches": size.batches,
        "accented": names.ACCENTED,
        "plain": names.PLAIN,
        "open_statuses": list(OPEN_ORDER_STATUSES),
        "families": list(names.FAMILIES),
        "trades": list(names.TRADES),
        "forms": list(names.FORMS),
        "styles": list(names.STYLES),
        "goods": [name for name, _ in names.GOODS],
        "codes": [code for _, code in names.GOODS],
        "variants": list(names.VARIANTS),
        "stores": list(names.STORES),
    }

    def run(statement: str) -> int:
        return int(connection.execute(sa.text(statement), values).rowcount)

    run(_COMPANIES)
    run(_PRODUCT_LIST)
    used = {"companies": size.companies + DELETED_COMPANIES, "products": run(_PRODUCTS)}
    run("ANALYZE pg_temp.demo_product")
    run(_ITEMS)
    run(_LINES)
    run("ANALYZE pg_temp.demo_item, pg_temp.demo_line")
    run(_BASKETS)
    run("ANALYZE pg_temp.demo_order")
    used["orders"] = run(_ORDERS)
    used["order_lines"] = run(_ORDER_LINES)
    used["stock_items"] = run(_STOCK_ITEMS)
    run(_TENANTS)
    run(_STORES)
    run(_BATCHES)
    for table, last in used.items():
        if last:
            connection.execute(_SEQUENCE, {"table": f"public.{table}", "used": last})


def forget_functions(connection: sa.Connection) -> None:
    """Drop what outlives the transaction in a session that is used again."""
    connection.execute(sa.text(_DROP_FUNCTIONS))
