"""The demo as a whole: one transaction that makes it, and the summary of what was made."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from inventory_migration.database import explain
from inventory_migration.demo import defects, generate, schema
from inventory_migration.errors import DemoArgumentInvalid

# Two demos at the same moment would both find the way clear.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended(:mark, 0))"

# A role's limits are made for the application's statements. An empty path keeps other schemas'
# names out, and UTC has no summer time that would make some days longer.
_SETTINGS = """
SET LOCAL search_path = pg_catalog;
SET LOCAL timezone = 'UTC';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL work_mem = '128MB';
SET LOCAL maintenance_work_mem = '256MB';
SET LOCAL jit = off;
"""

_COUNTS = """
SELECT
    (SELECT count(*) FROM public.companies) AS companies,
    (SELECT count(*) FROM public.orders) AS orders,
    (SELECT count(*) FROM public.order_lines) AS order_lines,
    (SELECT count(*) FROM public."Tenant") AS tenants,
    (SELECT count(*) FROM public."InventoryBatch") AS batches,
    count(*) AS items,
    coalesce(sum(quantity), 0) AS units,
    coalesce(sum(reserved_quantity), 0) AS reserved
FROM public.stock_items
"""


@dataclass(frozen=True)
class DemoSummary:
    """What stands in the demo's tables, counted there.

    Attributes:
        companies: Rows of `companies`.
        items: Rows of `stock_items`.
        units: Sum of their quantities; a missing one counts nothing.
        reserved: Sum of what is reserved of them.
        orders: Rows of `orders`.
        order_lines: Rows of `order_lines`.
        tenants: Rows of `"Tenant"`.
        batches: Rows of `"InventoryBatch"`.
        defects: How many of each kind were planted; empty for a clean demo. `item_duplicate` counts
            both records of each pair.
        elapsed_seconds: From the first statement to the commit.
    """

    companies: int
    items: int
    units: int
    reserved: int
    orders: int
    order_lines: int
    tenants: int
    batches: int
    defects: dict[str, int]
    elapsed_seconds: float

    def to_dict(self) -> dict[str, object]:
        """Return the summary as one object for `--json`."""
        return asdict(self)


def create_demo(
    engine: sa.Engine,
    *,
    companies: int = 50,
    items: int = 10_000,
    seed: int = 1,
    dirty: float = 0.0,
    broken: bool = False,
    replace: bool = False,
) -> DemoSummary:
    """Make the demo inventory in the schema `public`: all of it, or on failure nothing.

    Args:
        engine: Where; whatever else is in that database is left alone.
        companies: How many companies, of uneven size.
        items: How many stock items in total.
        seed: The same seed makes the same data.
        dirty: Share of the items, 0 to 1, that get a defect which a migration survives. From 100
            items on there is at least one of each kind.
        broken: Also plant what a gate must refuse.
        replace: Drop an earlier demo first.

    Raises:
        DemoArgumentInvalid: An argument is out of its range.
        DemoConflict: Other tables have the demo's names; nothing was changed.
        DemoExists: There is a demo already, and `replace` was not asked for.
        DemoInUse: Views or foreign keys of others depend on the demo that is to be replaced.
        LockNotObtained: Other sessions use the demo that is to be replaced.
        MigrationError: The database can not be reached or refuses a statement.
    """
    _validate(companies=companies, items=items, seed=seed, dirty=dirty)
    started = time.monotonic()
    size = defects.demo_size(companies, items, dirty)
    try:
        with engine.begin() as connection:
            counts, planted = _create(
                connection, size, seed=seed, dirty=dirty, broken=broken, replace=replace
            )
    except sa.exc.DBAPIError as error:
        raise explain(error, engine) from error
    elapsed = round(time.monotonic() - started, 3)
    return DemoSummary(**counts, defects=planted, elapsed_seconds=elapsed)


def has_demo(engine: sa.Engine) -> bool:
    """Return whether the database holds a demo: all of its tables, each with the demo's mark."""
    try:
        with engine.connect() as connection:
            taken = schema.taken_names(connection)
    except sa.exc.DBAPIError as error:
        raise explain(error, engine) from error
    return len(taken) == len(schema.TABLES) and all(taken.values())


def _create(
    connection: sa.Connection,
    size: generate.DemoSize,
    *,
    seed: int,
    dirty: float,
    broken: bool,
    replace: bool,
) -> tuple[dict[str, int], dict[str, int]]:
    connection.execute(sa.text(_ONE_AT_A_TIME), {"mark": schema.MARK})
    connection.execute(sa.text(_SETTINGS))
    schema.clear_the_way(connection, replace=replace)
    schema.make_tables(connection)
    generate.fill_tables(connection, size, seed)
    planted: dict[str, int] = {}
    if dirty > 0:
        planted |= defects.plant_defects(connection, size, seed, dirty, broken=broken)
    if broken:
        planted |= defects.plant_refusals(connection, size, seed)
    schema.add_keys(connection)
    generate.forget_functions(connection)
    row = connection.execute(sa.text(_COUNTS)).one()
    return {name: int(value) for name, value in row._mapping.items()}, planted


def _validate(*, companies: int, items: int, seed: int, dirty: float) -> None:
    if companies < 1:
        raise DemoArgumentInvalid(argument="companies", value=companies, expected="1 or more")
    if items < 0:
        raise DemoArgumentInvalid(argument="items", value=items, expected="0 or more")
    if not -(2**63) <= seed < 2**63:
        raise DemoArgumentInvalid(argument="seed", value=seed, expected="a number of 64 bits")
    if math.isnan(dirty) or not 0 <= dirty <= 1:
        raise DemoArgumentInvalid(argument="dirty", value=dirty, expected="a share from 0 to 1")
