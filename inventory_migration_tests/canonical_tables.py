"""Hand-made tables of the canonical relations' shape, and what the suites are loaded with."""

from __future__ import annotations

from inventory_migration.audit import oddities
from inventory_migration.database import connection_parameters
from inventory_migration.mapping import Rules
from inventory_migration.quality.gate_suites import severity_of
from inventory_migration.quality.judging import judge
from inventory_migration.quality.suites import Suite, load_suite
from inventory_migration.quality.verdict import Verdict
from inventory_migration_tests.conftest import Database

SEVERITIES = {
    **{rule: severity_of(action) for rule, action in Rules().actions().items()},
    # No rule of a mapping: whether the application wrote meanwhile is known to the caller.
    "references_changed": "warning",
}

RELATIONS = {
    name: f'SELECT * FROM "{name}"'
    for name in (
        "records", "companies", "default_locations", "moved", "differences", "balance",
        "unbalanced", "balanced",
        "references",
    )
}  # fmt: skip

ODDITIES = {
    **{name: f'SELECT * FROM "{name}"' for name in oddities.RELATIONS},
    # As the engine makes them from the records, so that these can be broken.
    "key_faults": "SELECT COALESCE(key_1::text, 'no key') AS key_text, count(*) AS records "
    "FROM records GROUP BY key_1 HAVING count(*) > 1 OR key_1 IS NULL",
    "item_copies": "SELECT min(key_text) AS key_text, company_key, item_key, count(*) AS records "
    "FROM records WHERE outcome <> 'skipped' AND company_key IS NOT NULL AND item_key IS NOT NULL "
    "GROUP BY company_key, item_key HAVING count(*) > 1",
}
"""What is odd, in tables of their own: that it is found is tested with findings."""

BATCHES = {
    "audit_profile": "records",
    "default_locations": "companies",
    "transformed_stock": "moved",
    "reconciliation_report": "differences",
}

PARAMETERS: dict[str, int | float] = {
    "expected_rows": 6,
    "expected_companies": 3,
    "expected_differences": 1,
    "expected_records": 2,
    "quarantined_percent": 10.0,
    "after_records": 1,
}

TABLES = """
    CREATE TABLE records (
        key_1 bigint, key_text text, company_key bigint, company_found boolean, item_key text,
        quantity numeric, reserved numeric, quantity_state text, reserved_state text,
        location_key bigint, location_own boolean, outcome text, rule text, row_hash bigint,
        companies bigint NOT NULL DEFAULT 1, located_before boolean NOT NULL DEFAULT false);
    CREATE TABLE companies (
        company_key bigint, company_name text, default_locations bigint, location_key bigint,
        stock_records bigint);
    CREATE TABLE default_locations (
        location_key bigint, company_key bigint, company_found boolean);
    CREATE TABLE moved (
        position bigint, key_text text, company_key bigint, outcome text, rule text,
        location_key bigint, location_found boolean, location_own boolean,
        quantity_before numeric, quantity numeric, reserved_before numeric, reserved numeric);
    CREATE TABLE differences (kind text, key_text text, explained boolean, detail text);
    CREATE TABLE balance (
        company_key bigint, item_key text, available_before numeric, available_after numeric,
        explained numeric);
    CREATE VIEW unbalanced AS SELECT * FROM balance;
    CREATE TABLE balanced (records bigint);
    CREATE TABLE "references" (
        name text, rows_before bigint, rows_after bigint, orphans_before bigint,
        orphans_after bigint);
""" + "".join(
    f'CREATE TABLE "{name}" ({", ".join(("key_text text", *columns))});\n'
    for name, columns in oddities.RELATIONS.items()
    if name not in ("item_copies", "key_faults")
)

# Records 5 and 6 break every rule that there is, and are skipped.
ROWS = """
    INSERT INTO records VALUES
        (1, '1', 1, true, 'A-1', 10, 2, 'ok', 'ok', NULL, NULL, 'migrated', NULL, 11),
        (2, '2', 1, true, 'A-2', 5.5, 0, 'ok', 'ok', NULL, NULL, 'migrated', NULL, 12),
        (3, '3', 2, true, 'B-1', 7, 7, 'ok', 'ok', 102, true, 'already', NULL, 13),
        (4, '4', 2, true, 'B-2', 0, 0, 'ok', 'ok', NULL, NULL, 'migrated', NULL, 14),
        (5, '5', NULL, false, 'A-1', -3, 9, 'ok', 'not_a_number', 102, false,
            'skipped', 'deleted', 15),
        (6, '6', 1, true, 'A-1', NULL, 0, 'missing', 'ok', NULL, NULL, 'skipped', 'deleted', 16);
    UPDATE records SET companies = 2 WHERE outcome = 'skipped';
    INSERT INTO companies VALUES
        (1, 'Acme', 1, 101, 3), (2, 'Bolt', 1, 102, 2), (3, 'Idle', 1, 103, 0);
    INSERT INTO default_locations VALUES (101, 1, true), (102, 2, true), (103, 3, true);
    INSERT INTO moved VALUES
        (1, '1', 1, 'migrated', NULL, 101, true, true, 10, 10, 2, 2),
        (2, '2', 1, 'migrated', NULL, 101, true, true, 0.1, 0.1, 0, 0),
        (3, '3', 2, 'already', NULL, 102, true, true, 7, 7, 7, 7),
        (4, '4', 2, 'skipped', 'deleted', NULL, NULL, NULL, 4, 4, 0, 0),
        (5, '5', NULL, 'quarantined', 'quantity_missing', NULL, NULL, NULL, NULL, NULL, 1, 1),
        (6, '6', 2, 'gone', NULL, NULL, NULL, NULL, 9, NULL, 3, NULL);
    INSERT INTO differences VALUES ('changed', '2', true, 'sold by the application');
    INSERT INTO balanced VALUES (2);
    INSERT INTO balance VALUES (1, 'A-1', 8, 8, 0), (2, 'B-1', 5, 3, -2);
    INSERT INTO "references" VALUES
        ('order_lines_stock_item_id_fkey', 40, 40, 0, 0),
        ('stock_items_product_id_fkey', 6, 6, 1, 1);
"""


def make_tables(database: Database, *, empty: bool = False) -> None:
    """Create the tables in a database, with an inventory that all suites accept."""
    database.psql(TABLES if empty else TABLES + ROWS)


def loaded(name: str) -> Suite:
    """Return a shipped suite, with the severities of the default rules."""
    return load_suite(
        name,
        severities=SEVERITIES,
        relations=RELATIONS | ODDITIES,
        keys=["key_1"],
        told=name == "audit_profile",
    )


def judged(database: Database, name: str, **parameters: int | float) -> Verdict:
    """Judge a shipped suite against the tables."""
    return judge(
        loaded(name),
        batch=RELATIONS[BATCHES[name]],
        parameters={**PARAMETERS, **parameters},
        connection_parameters=connection_parameters(database.url),
    )
