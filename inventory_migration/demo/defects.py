"""What is planted into a demo: defects that a migration survives, and what a gate must refuse.

Every record that is touched gets exactly one defect, so that the numbers add up. Two things follow
from the data itself: a negative quantity is also less than what is reserved, though only
`negative_quantity` counts it; and what is reserved over the quantity no longer equals the open
order lines. The tables themselves and their clean content do not belong here.
"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa

from inventory_migration.demo.generate import DELETED_COMPANIES, DemoSize

# From so many items on, the smallest share still plants one of each.
EACH_FROM = 100

# What `plant_defects` plants, in the order in which it is reported.
DEFECTS = (
    "quantity_missing",
    "negative_quantity",
    "reserved_exceeds_quantity",
    "company_unknown",
    "company_null",
    "item_duplicate",
    "sku_spaces",
    "sku_case",
    "soft_deleted",
    "company_without_stock",
    "company_with_default_location",
)

# Percent of all defective records. What a migration quarantines is kept to a seventh of them: it
# gives up above one percent of its records.
_LEAVES_COMPANY = {"company_unknown": 4, "company_null": 4, "soft_deleted": 14}
_STAYS = {
    "quantity_missing": 6,
    "negative_quantity": 12,
    "reserved_exceeds_quantity": 12,
    "sku_spaces": 12,
    "sku_case": 12,
}
_PAIRED = {"item_duplicate": 24}

# Percent, of the same share of the companies, for each of the two kinds that concern companies.
_OF_COMPANIES = 25

_CHOSEN = """
CREATE TEMPORARY TABLE demo_defect (
    item_id bigint PRIMARY KEY,
    kind text NOT NULL,
    original_id bigint
) ON COMMIT DROP
"""

# Two variants of one product, the second with the first one's SKU.
_CHOOSE_PAIRS = """
INSERT INTO pg_temp.demo_defect (item_id, kind, original_id)
SELECT record.*
FROM (
    SELECT p
    FROM generate_series(1, least(:products, :items - :products)) AS p
    ORDER BY pg_temp.demo_draw(p, 'duplicate', :seed), p
    LIMIT :pairs
) AS pair
CROSS JOIN LATERAL (VALUES (p, 'item_duplicate', NULL), (p + :products, 'item_duplicate', p))
    AS record
"""

_CHOOSE = """
INSERT INTO pg_temp.demo_defect (item_id, kind)
SELECT id, (CAST(:kinds AS text[]))[width_bucket(place, CAST(:starts AS bigint[]))]
FROM (
    SELECT id, row_number() OVER (ORDER BY lot, id) AS place
    FROM (
        SELECT i.id, pg_temp.demo_draw(i.id, 'defect', :seed) AS lot
        FROM pg_temp.demo_item AS i
        WHERE i.id > :after
            AND NOT EXISTS (SELECT FROM pg_temp.demo_defect AS d WHERE d.item_id = i.id)
        ORDER BY lot, id
        LIMIT :total
    ) AS candidates
) AS chosen
"""

_PLANT = """
UPDATE public.stock_items AS s
SET
    company_id = CASE d.kind
        WHEN 'company_null' THEN NULL
        WHEN 'company_unknown'
            THEN :companies + 1 + floor(:deleted * pg_temp.demo_draw(s.id, 'lost', :seed))::bigint
        ELSE s.company_id
    END,
    quantity = CASE d.kind
        WHEN 'quantity_missing' THEN NULL
        WHEN 'negative_quantity' THEN -1 - floor(20 * pg_temp.demo_draw(s.id, 'owed', :seed))::int
        ELSE s.quantity
    END,
    reserved_quantity = CASE d.kind
        WHEN 'reserved_exceeds_quantity'
            THEN s.quantity + 1 + floor(10 * pg_temp.demo_draw(s.id, 'oversold', :seed))::int
        ELSE s.reserved_quantity
    END,
    sku = CASE d.kind
        WHEN 'item_duplicate' THEN coalesce(original.sku, s.sku)
        WHEN 'sku_spaces' THEN CASE s.id % 3
            WHEN 0 THEN ' ' || s.sku
            WHEN 1 THEN s.sku || '  '
            ELSE ' ' || s.sku || ' '
        END
        WHEN 'sku_case' THEN CASE s.id % 2 WHEN 0 THEN lower(s.sku) ELSE initcap(s.sku) END
        ELSE s.sku
    END,
    deleted_at = CASE d.kind
        WHEN 'soft_deleted' THEN TIMESTAMPTZ '2025-07-31 08:00+00'
            - INTERVAL '10 days' * pg_temp.demo_draw(s.id, 'deleted', :seed)
    END
FROM pg_temp.demo_defect AS d
LEFT JOIN public.stock_items AS original ON original.id = d.original_id
WHERE s.id = d.item_id
"""

# An application that has records without a quantity lets them be.
_WITHOUT_QUANTITY = """
ALTER TABLE public.stock_items ALTER COLUMN quantity DROP NOT NULL
"""

_PLANTED = """
SELECT kind, count(*) AS records
FROM pg_temp.demo_defect
GROUP BY kind
"""

_WITHOUT_STOCK = """
SELECT count(*)
FROM public.companies AS c
WHERE NOT EXISTS (SELECT FROM public.stock_items AS s WHERE s.company_id = c.id)
"""

# Companies in an order of their own: the first is left to `plant_refusals`.
_DEFAULT_LOCATIONS = """
INSERT INTO public.locations (company_id, name, code, kind, is_default, created_at)
SELECT c.id, 'Head office', 'HQ', 'warehouse', true, c.created_at
FROM public.companies AS c
WHERE c.id <= :stocked
ORDER BY pg_temp.demo_draw(c.id, 'located', :seed), c.id
LIMIT :chosen OFFSET :left_out
"""

_TWO_DEFAULTS = """
INSERT INTO public.locations (company_id, name, code, kind, is_default, created_at)
SELECT c.id, 'Warehouse ' || code, code, 'warehouse', true, c.created_at
FROM (
    SELECT id, created_at
    FROM public.companies
    WHERE id <= :stocked
    ORDER BY pg_temp.demo_draw(id, 'located', :seed), id
    LIMIT 1
) AS c
CROSS JOIN (VALUES ('EAST'), ('WEST')) AS side (code)
"""

_DEFAULT_OF_NO_COMPANY = """
INSERT INTO public.locations (company_id, name, code, kind, is_default, created_at)
SELECT :companies + :deleted, 'Closed warehouse', 'OLD', 'warehouse', true, min(created_at)
FROM public.companies
"""


def demo_size(companies: int, items: int, dirty: float) -> DemoSize:
    """Return how large the demo is to be, with room for its defects.

    A share of the companies gets no stock. So do more of them where every record were otherwise the
    only one of its company: then none could leave it, and none have a duplicate.
    """
    without = _count(companies, items, dirty, _OF_COMPANIES)
    room = items - sum(_counts(_LEAVES_COMPANY | _PAIRED, items, dirty).values())
    stocked = max(1, min(companies - without, room)) if dirty > 0 else companies
    return DemoSize(companies=companies, stocked=stocked, items=items)


def plant_defects(
    connection: sa.Connection, size: DemoSize, seed: int, dirty: float, *, broken: bool
) -> dict[str, int]:
    """Plant what a migration survives, and return how many of each kind were planted.

    `item_duplicate` counts the records involved, both of each pair that shares an SKU.
    """
    paired = _counts(_PAIRED, size.items, dirty)["item_duplicate"]
    values = {
        "seed": seed,
        "companies": size.companies,
        "stocked": size.stocked,
        "products": size.products,
        "items": size.items,
        "deleted": DELETED_COMPANIES,
        "chosen": _count(size.companies, size.items, dirty, _OF_COMPANIES),
        "left_out": int(broken),
        "pairs": max(paired // 2, min(paired, 1)),
    }
    connection.execute(sa.text(_CHOSEN))
    connection.execute(sa.text(_CHOOSE_PAIRS), values)
    # Each company's first record stays with it, or else it would be one more company without stock.
    for kinds, after in ((_LEAVES_COMPANY, size.stocked), (_STAYS, 0)):
        _choose(connection, _counts(kinds, size.items, dirty), {"seed": seed, "after": after})
    if _counts(_STAYS, size.items, dirty)["quantity_missing"]:
        connection.execute(sa.text(_WITHOUT_QUANTITY))
    connection.execute(sa.text(_PLANT), values)
    located = connection.execute(sa.text(_DEFAULT_LOCATIONS), values).rowcount

    planted = dict.fromkeys(DEFECTS, 0)
    planted |= {row.kind: row.records for row in connection.execute(sa.text(_PLANTED))}
    planted["company_without_stock"] = int(connection.scalar(sa.text(_WITHOUT_STOCK)) or 0)
    planted["company_with_default_location"] = located
    return planted


def plant_refusals(connection: sa.Connection, size: DemoSize, seed: int) -> dict[str, int]:
    """Plant a company with two default locations, and a default location of no company."""
    values = {
        "seed": seed,
        "companies": size.companies,
        "stocked": size.stocked,
        "deleted": DELETED_COMPANIES,
    }
    two = connection.execute(sa.text(_TWO_DEFAULTS), values).rowcount
    lost = connection.execute(sa.text(_DEFAULT_OF_NO_COMPANY), values).rowcount
    return {"default_location_ambiguous": two // 2, "default_location_company_unknown": lost}


def _choose(connection: sa.Connection, counts: dict[str, int], values: dict[str, object]) -> None:
    starts, total = [], 0
    for count in counts.values():
        starts.append(total + 1)
        total += count
    lots = {"kinds": list(counts), "starts": starts, "total": total}
    connection.execute(sa.text(_CHOOSE), values | lots)


def _counts(kinds: dict[str, int], items: int, dirty: float) -> dict[str, int]:
    return {kind: _count(items, items, dirty, percent) for kind, percent in kinds.items()}


def _count(population: int, items: int, dirty: float, percent: int) -> int:
    # Decimal, since 0.29 * 100 is 28.999999999999996.
    exact = int(Decimal(str(dirty)) * population * percent / 100)
    return max(exact, 1) if dirty > 0 and items >= EACH_FROM else exact
