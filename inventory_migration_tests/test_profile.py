"""The profile of an inventory: every figure, on tables whose figures are known."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import sqlalchemy as sa

from inventory_migration.audit.involved import Involved
from inventory_migration.audit.profile import TOP_COMPANIES, Profile, profile
from inventory_migration.catalog import Column, Relation
from inventory_migration_tests.canonical_tables import RELATIONS, make_tables
from inventory_migration_tests.conftest import Database

SOURCE = """
    CREATE SCHEMA "Sh:op %s";
    CREATE TABLE "Sh:op %s"."Units" (id bigint PRIMARY KEY, factor int);
    CREATE TABLE "Sh:op %s"."Stock {Item}" (
        id bigint PRIMARY KEY,
        "s:ku %" text,
        note varchar(20),
        price numeric(10, 2),
        changed timestamp(3) with time zone,
        open boolean,
        extra jsonb,
        unit bigint REFERENCES "Sh:op %s"."Units",
        parent bigint REFERENCES "Sh:op %s"."Stock {Item}"
    );
    INSERT INTO "Sh:op %s"."Units" VALUES (1, 1), (2, 12);
    INSERT INTO "Sh:op %s"."Stock {Item}" VALUES
        (1, 'A|1', '12', 1.50, '2024-01-01 00:00+00', true, '{}', 1, NULL),
        (2, 'B-2', ' 2024-02-30', 20.00, '2025-01-01 00:00+00', false, NULL, 1, 1),
        (3, 'b-2', '-1.5e3', NULL, NULL, true, NULL, 2, 1),
        (4, NULL, 'none', 1.50, NULL, NULL, NULL, NULL, 2);
"""


def source_of(connection: sa.Connection, schema: str, table: str) -> Relation:
    """Return a table as the catalog has it, by a query of this test's own."""
    oid = connection.scalar(
        sa.text(
            "SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = :schema AND c.relname = :table"
        ),
        {"schema": schema, "table": table},
    )
    assert oid is not None
    columns = connection.execute(
        sa.text(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
            "WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ),
        {"oid": oid},
    ).all()
    return Relation(
        oid=oid,
        schema=schema,
        name=table,
        columns={name: Column(name, kind, required, False, False)
                 for name, kind, required in columns},
        unique_keys=(("id",),) if any(name == "id" for name, *_ in columns) else (),
        triggers=(),
        publications=(),
    )  # fmt: skip


def profile_of(database: Database, *, table: tuple[str, str] | None = None, **more: int) -> Profile:
    """Profile the canonical tables, and a table of the application."""
    schema, name = table or ("public", "records")
    with database.engine.connect() as connection:
        source = [Involved(source_of(connection, schema, name), ("stock records",))]
        return profile(connection, RELATIONS["records"], RELATIONS["companies"], source, **more)


def test_totals_are_exact_and_count_each_defect(database: Database) -> None:
    make_tables(database)
    database.psql(
        "UPDATE records SET quantity = 5.500000000000000000001, reserved = 6 WHERE key_1 = 2"
    )
    assert profile_of(database).totals == {
        "records": 6,
        "units": Decimal("19.500000000000000000001"),
        "reserved": Decimal(24),
        "available": Decimal("-4.499999999999999999999"),
        "without_company": 1,
        "of_unknown_company": 0,
        "quantity_missing": 1,
        "not_a_number": 1,
        "negative_quantity": 1,
        "fractional_quantity": 1,
        "reserved_exceeds_quantity": 1,
        "with_location": 2,
        "at_foreign_location": 1,
        "companies": 3,
        "companies_without_stock": 1,
        "companies_without_default_location": 0,
        "companies_with_several_default_locations": 0,
    }


def test_what_is_available_is_units_less_reserved_also_where_a_quantity_is_missing(
    database: Database,
) -> None:
    make_tables(database)
    database.psql("UPDATE records SET reserved = 4 WHERE quantity IS NULL")
    totals = profile_of(database).totals
    assert (totals["units"], totals["reserved"]) == (Decimal("19.5"), Decimal(22))
    assert totals["available"] == Decimal("-2.5")


def test_a_net_quantity_is_what_is_available(database: Database) -> None:
    make_tables(database)
    with database.engine.connect() as connection:
        source = [Involved(source_of(connection, "public", "records"), ("stock records",))]
        found = profile(connection, RELATIONS["records"], RELATIONS["companies"], source, net=True)
    assert found.totals["available"] == found.totals["units"] == Decimal("19.5")


def test_records_are_counted_by_predicted_outcome_and_rule(database: Database) -> None:
    make_tables(database)
    database.psql(
        "UPDATE records SET outcome = 'quarantined', rule = 'company_missing' WHERE key_1 = 1"
    )
    found = profile_of(database)
    assert found.to_json()["outcomes"] == [
        {"outcome": "migrated", "rule": None, "records": 2, "units": "5.5", "reserved": "0",
         "available": "5.5"},
        {"outcome": "skipped", "rule": "deleted", "records": 2, "units": "-3", "reserved": "9",
         "available": "-12"},
        {"outcome": "already", "rule": None, "records": 1, "units": "7", "reserved": "7",
         "available": "0"},
        {"outcome": "quarantined", "rule": "company_missing", "records": 1, "units": "10",
         "reserved": "2", "available": "8"},
    ]  # fmt: skip


def test_companies_are_listed_largest_first_and_by_name(database: Database) -> None:
    make_tables(database)
    rows = profile_of(database).to_json()["companies"]
    assert [(row["company_key"], row["company_name"], row["records"]) for row in rows] == [
        (1, "Acme", 3), (2, "Bolt", 2), (None, None, 1),
    ]  # fmt: skip
    assert rows[0]["units"] == "15.5"
    assert rows[0]["default_locations"] == 1


def test_the_list_of_companies_is_bounded(database: Database) -> None:
    make_tables(database, empty=True)
    database.psql(
        "INSERT INTO records (key_1, company_key, outcome) "
        "SELECT n, n % 60, 'migrated' FROM generate_series(1, 121) AS n"
    )
    found = profile_of(database)
    assert len(found.companies) == TOP_COMPANIES < 60
    assert found.to_json()["companies"][0]["records"] == 3


def test_duplicates_are_counted_by_key_and_by_item(database: Database) -> None:
    make_tables(database)
    database.psql(
        "INSERT INTO records SELECT * FROM records WHERE key_1 IN (1, 2, 6);"
        "INSERT INTO records SELECT * FROM records WHERE key_1 = 1 LIMIT 1"
    )
    assert profile_of(database).to_json()["duplicates"] == [
        {"of": "key", "groups": 3, "records": 7},
        {"of": "company and item", "groups": 2, "records": 5},
    ]


def test_columns_tell_type_nulls_distinct_range_and_inconsistencies(database: Database) -> None:
    make_tables(database)
    database.psql(SOURCE)
    found = profile_of(database, table=("Sh:op %s", "Stock {Item}"))
    columns = {row.pop("column"): row for row in found.to_json()["tables"][0]["columns"]}
    assert {row.pop("distinct_is") for row in columns.values()} == {"exact"}
    stamps = ["2024-01-01 00:00:00+00", "2025-01-01 00:00:00+00"]
    kept = ("type", "nulls", "distinct", "minimum", "maximum", "inconsistency")
    assert {name: tuple(row[key] for key in kept) for name, row in columns.items()} == {
        "id": ("bigint", 0, 4, "1", "4", ""),
        "s:ku %": ("text", 1, 3, "A|1", "b-2", ""),
        "note": ("character varying(20)", 0, 4, " 2024-02-30", "none",
                 "50.0 % numbers, 25.0 % dates"),
        "price": ("numeric(10,2)", 1, 2, "1.50", "20.00", ""),
        "changed": ("timestamp(3) with time zone", 2, 2, *stamps, ""),
        "open": ("boolean", 1, 2, None, None, ""),
        "extra": ("jsonb", 3, None, None, None, ""),
        "unit": ("bigint", 1, 2, "1", "2", ""),
        "parent": ("bigint", 1, 2, "1", "2", ""),
    }  # fmt: skip


def test_a_large_table_is_not_read_once_more_for_each_column(database: Database) -> None:
    make_tables(database)
    database.psql(SOURCE + 'ANALYZE "Sh:op %s"."Stock {Item}"')
    found = profile_of(database, table=("Sh:op %s", "Stock {Item}"), exact_rows=3)
    columns = {row["column"]: row for row in found.to_json()["tables"][0]["columns"]}
    assert (columns["id"]["distinct"], columns["id"]["distinct_is"]) == (4, "exact")
    assert (columns["unit"]["distinct"], columns["unit"]["distinct_is"]) == (2, "estimated")


def test_references_to_nothing_are_counted_for_each_foreign_key(database: Database) -> None:
    make_tables(database)
    database.psql(
        SOURCE + 'ALTER TABLE "Sh:op %s"."Stock {Item}" DISABLE TRIGGER ALL;'
        'UPDATE "Sh:op %s"."Stock {Item}" SET unit = 77 WHERE id < 3'
    )
    found = profile_of(database, table=("Sh:op %s", "Stock {Item}"))
    stock = "Sh:op %s.Stock {Item}"
    assert found.to_json()["references"] == [
        {"name": "Stock {Item}_parent_fkey", "table": stock, "columns": "parent",
         "references": stock, "known_by": "foreign key", "rows": 3, "orphans": 0},
        {"name": "Stock {Item}_unit_fkey", "table": stock, "columns": "unit",
         "references": "Sh:op %s.Units", "known_by": "foreign key", "rows": 3, "orphans": 2},
    ]  # fmt: skip
    assert found.metadata()["foreign_key_orphans"] == 2


def test_a_referenced_table_that_may_not_be_read_is_left_open(database: Database) -> None:
    role = f"limited_{database.name}"
    make_tables(database)
    database.psql(
        SOURCE + f'CREATE ROLE {role}; GRANT USAGE ON SCHEMA "Sh:op %s" TO {role};'
        f'GRANT SELECT ON records, companies, "Sh:op %s"."Stock {{Item}}" TO {role}'
    )
    try:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"SET ROLE {role}")
            source = [Involved(source_of(connection, "Sh:op %s", "Stock {Item}"), ())]
            found = profile(connection, RELATIONS["records"], RELATIONS["companies"], source)
    finally:
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role};")
    orphans = {row["name"]: row["orphans"] for row in found.to_json()["references"]}
    assert orphans == {"Stock {Item}_parent_fkey": 0, "Stock {Item}_unit_fkey": None}
    assert found.metadata()["foreign_key_orphans"] == 0


def test_metadata_is_flat_and_holds_the_figures_to_keep(database: Database) -> None:
    make_tables(database)
    database.psql(
        "UPDATE records SET outcome = 'quarantined', rule = 'company_missing' WHERE key_1 = 1;"
        "INSERT INTO records SELECT * FROM records WHERE key_1 = 2"
    )
    found = profile_of(database).metadata()
    assert all(type(value) in {int, float, str} for value in found.values())
    assert found.items() >= {
        "records": 7, "units": "25.0", "reserved": "18", "companies": 3,
        "predicted_migrated": 3, "predicted_already": 1, "predicted_skipped": 2,
        "predicted_quarantined": 1, "predicted_quarantined_company_missing": 1,
        "duplicate_keys": 1, "duplicate_items": 1, "null_values": 16,
        "columns_with_type_inconsistencies": 1, "foreign_key_orphans": 0,
    }.items()  # fmt: skip


def test_a_profile_is_plain_json(database: Database) -> None:
    make_tables(database)
    database.psql(SOURCE)
    found = profile_of(database, table=("Sh:op %s", "Stock {Item}")).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["tables"][0]["table"] == "Sh:op %s.Stock {Item}"


def test_a_profile_reads_as_tables_in_which_data_is_no_markup(database: Database) -> None:
    make_tables(database)
    database.psql(SOURCE + "UPDATE companies SET company_name = E'A|b <i>\\n*c*' "
                  "WHERE company_key = 1")  # fmt: skip
    text = profile_of(database, table=("Sh:op %s", "Stock {Item}")).to_markdown()
    assert "| records | 6 |" in text
    assert r"| 1 | A\|b \<i\> \*c\* | 1 | 3 | 15.5 | 2 | 13.5 | 1 | 0 | 0 |" in text
    assert r"| s:ku % | text | 1 | 3 | A\|1 | b-2 | 3 to 3 |  |" in text
    assert r"### Columns of Sh:op %s.Stock {Item} (stock records)" in text
    for title in ("Predicted outcomes", "Duplicates", "References"):
        assert f"### {title}\n\n|" in text


def test_an_empty_inventory_has_a_profile(database: Database) -> None:
    make_tables(database, empty=True)
    found = profile_of(database)
    assert set(found.totals.values()) == {0}
    assert found.metadata()["predicted_migrated"] == 0
    assert "### References\n\nNone." in found.to_markdown()
    assert found.to_json()["companies"] == []


def test_a_profile_only_reads(database: Database) -> None:
    make_tables(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        source = [Involved(source_of(connection, "public", "records"), ("stock records",))]
        found = profile(connection, RELATIONS["records"], RELATIONS["companies"], source)
    assert found.totals["records"] == 6


def test_a_users_sql_is_not_misread(database: Database) -> None:
    make_tables(database)
    odd = "WITH r AS (SELECT * FROM records WHERE ':x' < '{y} 5%' AND key_1 % 7 > 0) TABLE r -- :z"
    with database.engine.connect() as connection:
        source = [Involved(source_of(connection, "public", "records"), ("stock records",))]
        assert profile(connection, odd, RELATIONS["companies"], source).totals["records"] == 6
        with pytest.raises(sa.exc.ProgrammingError, match="no_such"):
            profile(connection, "SELECT * FROM no_such", RELATIONS["companies"], source)
