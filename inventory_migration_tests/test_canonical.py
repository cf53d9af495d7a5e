"""The rules, in their order, as the SQL says them; held against a model in plain Python."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.database import escaped
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import canonical, columns, copies
from inventory_migration.engine.rules import LATE_RULE, conditions
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.stage import DEFINITION, mapping

TABLES = (
    stage.SHOP
    + """
    ALTER TABLE stock_items ADD location_id bigint;
    CREATE TABLE locations (id bigserial PRIMARY KEY, company_id bigint, name text, code text,
                            is_default boolean NOT NULL DEFAULT false);
    INSERT INTO companies VALUES (1, 'Acme'), (2, 'Bolt'), (3, 'Idle');
    INSERT INTO locations VALUES (10, 1, 'Main', 'M', true), (11, 1, 'Side', 'S', false),
                                 (20, 2, 'Main', 'M', true);
    """
)
ADOPTING = {"locations": {**DEFINITION["locations"], "create": None}}


@pytest.fixture(scope="module")
def emptied(server: EmbeddedServer) -> Iterator[Database]:
    """A database with the tables for all tests here, each of which undoes what it does."""
    with made_database(server) as made:
        made.psql(TABLES)
        yield made


def execute(connection: sa.Connection, script: str) -> None:
    connection.execute(sa.text(escaped(script)))


def part(name: str, /, **changes: Any) -> dict[str, Any]:
    return {name: {**DEFINITION[name], **changes}}


def rows(connection: sa.Connection, select: str) -> list[dict[str, Any]]:
    """The rows of a relation."""
    found = connection.execute(sa.text(escaped(f"SELECT * FROM ({select}) AS relation")))
    return [dict(row._mapping) for row in found]


def classified(
    connection: sa.Connection, mapping: StockMapping, **options: Any
) -> dict[str, dict[str, Any]]:
    """The relation `records` by key_text."""
    found = rows(connection, canonical.records(resolve(connection, mapping), **options))
    by_key = {row["key_text"]: row for row in found}
    assert len(by_key) == len(found)
    return by_key


def insert(connection: sa.Connection, *values: str) -> None:
    """Add stock items: id, company_id, sku, quantity, reserved, location_id, deleted_at."""
    execute(
        connection,
        "INSERT INTO stock_items (id, company_id, sku, quantity, reserved, location_id, deleted_at)"
        f" VALUES {', '.join(values)}",
    )


def outcome(connection: sa.Connection, values: str, **changes: Any) -> tuple[str, str | None]:
    """Outcome and rule of a single stock item."""
    insert(connection, values)
    (row,) = classified(connection, mapping(**changes)).values()
    return row["outcome"], row["rule"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("(1, 1, 'A', 5, 2, NULL, NULL)", ("migrated", None)),
        ("(1, 1, NULL, 0, 0, NULL, NULL)", ("migrated", None)),
        ("(1, 3, 'A', 5, 2, NULL, NULL)", ("migrated", None)),
        ("(1, 1, 'A', 5, 2, 10, NULL)", ("already", None)),
        ("(1, 1, 'A', 5, 2, 11, NULL)", ("already", None)),
        ("(1, 1, 'A', 5, 2, NULL, now())", ("skipped", "deleted")),
        ("(1, NULL, 'A', 5, 2, NULL, NULL)", ("quarantined", "company_missing")),
        ("(1, 9, 'A', 5, 2, NULL, NULL)", ("quarantined", "company_missing")),
        ("(1, 1, 'A', 5, 2, 20, NULL)", ("quarantined", "location_foreign")),
        ("(1, 1, 'A', 5, 2, 99, NULL)", ("quarantined", "location_foreign")),
        ("(1, 1, 'A', NULL, 2, NULL, NULL)", ("quarantined", "quantity_missing")),
        ("(1, 1, 'A', -5, 0, NULL, NULL)", ("migrated", None)),
        ("(1, 1, 'A', 5, 6, NULL, NULL)", ("migrated", None)),
    ],
)
def test_each_default_rule_gives_its_outcome(
    connection: sa.Connection, values: str, expected: tuple[str, str | None]
) -> None:
    assert outcome(connection, values) == expected


@pytest.mark.parametrize("action", ["quarantine", "fail"])
@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("negative_quantity", "(1, 1, 'A', -5, 0, NULL, NULL)"),
        ("reserved_exceeds_quantity", "(1, 1, 'A', 5, 6, NULL, NULL)"),
    ],
)
def test_a_rule_that_does_more_than_warn_keeps_its_record(
    connection: sa.Connection, rule: str, action: str, values: str
) -> None:
    assert outcome(connection, values, rules={rule: action}) == ("quarantined", rule)


def test_less_than_nothing_is_not_also_more_reserved_than_there_is(
    connection: sa.Connection,
) -> None:
    rules = {"reserved_exceeds_quantity": "quarantine"}
    assert outcome(connection, "(1, 1, 'A', -5, 6, NULL, NULL)", rules=rules) == ("migrated", None)


def test_of_a_net_quantity_more_may_be_reserved_than_is_left(connection: sa.Connection) -> None:
    rules = {"reserved_exceeds_quantity": "fail"}
    values = "(1, 1, 'A', 1, 6, NULL, NULL)"
    assert outcome(connection, values, rules=rules, quantity_basis="net") == ("migrated", None)


def test_available_takes_reserved_off_a_gross_quantity_only(connection: sa.Connection) -> None:
    gross, net = resolve(connection, mapping()), resolve(connection, mapping(quantity_basis="net"))
    assert canonical.available(gross, "q", "r") == "q - r"
    assert canonical.available(net, "q", "r") == "q"


def test_skipped_comes_first_then_already_then_the_rules_in_their_order(
    connection: sa.Connection,
) -> None:
    worst = mapping(
        rules={
            "negative_quantity": "quarantine",
            "reserved_exceeds_quantity": "quarantine",
            "item_duplicate": "quarantine",
            "default_location_ambiguous": "quarantine",
        },
        **ADOPTING,
    )
    execute(connection, "INSERT INTO locations VALUES (21, 2, 'Second', 'M', true)")
    insert(
        connection,
        "(1, 9, 'A', NULL, 2, 99, now())",
        "(2, 1, 'A', NULL, 2, 10, NULL)",
        "(3, 9, 'A', NULL, 2, 99, NULL)",
        "(4, 2, 'A', NULL, 2, 99, NULL)",
        "(5, 2, 'A', NULL, 2, NULL, NULL)",
        "(6, 2, 'A', -1, 2, NULL, NULL)",
        "(7, 2, 'A', 1, 2, NULL, NULL)",
        "(8, 2, 'A', 2, 2, NULL, NULL)",
        "(9, 2, 'B', 2, 2, NULL, NULL)",
    )
    assert {
        key: (row["outcome"], row["rule"]) for key, row in classified(connection, worst).items()
    } == {
        "1": ("skipped", "deleted"),
        "2": ("already", None),
        "3": ("quarantined", "company_missing"),
        "4": ("quarantined", "location_foreign"),
        "5": ("quarantined", "quantity_missing"),
        "6": ("quarantined", "negative_quantity"),
        "7": ("quarantined", "reserved_exceeds_quantity"),
        "8": ("quarantined", "item_duplicate"),
        "9": ("quarantined", "default_location_ambiguous"),
    }


def test_the_first_skip_reason_that_holds_is_the_one_that_counts(connection: sa.Connection) -> None:
    skip = {"empty": {"sql": "s.quantity = 0"}, "it's old": {"sql": "s.deleted_at < now()"}}
    two = mapping(**part("source", skip=skip))
    insert(
        connection,
        "(1, 1, 'A', 0, 0, NULL, '2020-01-01')",
        "(2, 1, 'A', 1, 0, NULL, '2020-01-01')",
        "(3, 1, 'A', NULL, 0, NULL, NULL)",
    )
    found = classified(connection, two)
    assert [found[key]["rule"] for key in "123"] == ["empty", "it's old", "quantity_missing"]


def test_a_company_with_two_default_locations_is_ambiguous(connection: sa.Connection) -> None:
    execute(connection, "INSERT INTO locations VALUES (12, 1, 'Second', 'M', true)")
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)", "(2, 1, 'A', 5, 0, 12, NULL)")
    found = classified(connection, mapping())
    assert [(found[k]["outcome"], found[k]["rule"]) for k in "12"] == [
        ("quarantined", "default_location_ambiguous"),
        ("already", None),
    ]


def test_all_copies_of_a_duplicate_are_put_aside_and_nobody_else(connection: sa.Connection) -> None:
    strict = mapping(rules={"item_duplicate": "quarantine"})
    insert(
        connection,
        "(1, 1, 'A', 1, 0, NULL, NULL)",
        "(2, 1, 'A', 2, 0, NULL, NULL)",
        "(3, 2, 'A', 3, 0, NULL, NULL)",
        "(4, 1, 'B', 4, 0, NULL, NULL)",
        "(5, 1, 'B', 5, 0, NULL, now())",
        "(6, 1, NULL, 6, 0, NULL, NULL)",
        "(7, 1, NULL, 7, 0, NULL, NULL)",
        "(8, 1, 'a', 8, 0, NULL, NULL)",
        "(9, NULL, 'C', 8, 0, NULL, NULL)",
        "(10, NULL, 'C', 8, 0, NULL, NULL)",
    )
    found = classified(connection, strict)
    assert [key for key, row in found.items() if row["rule"] == "item_duplicate"] == ["1", "2"]
    told = rows(connection, canonical.duplicates(resolve(connection, strict)))
    assert told == [{"company_key": 1, "item_key": "A", "copies": 2, "key_text": "1"}]
    assert copies.copies(connection, canonical.live_rows(resolve(connection, strict))) == (1, 2)


def test_where_no_item_is_there_twice_none_is_looked_for(connection: sa.Connection) -> None:
    insert(
        connection,
        "(1, 1, 'A', 1, 0, NULL, NULL)",
        "(2, 2, 'A', 2, 0, NULL, NULL)",
        "(3, 1, 'A', 3, 0, NULL, now())",
        "(4, 1, NULL, 4, 0, NULL, NULL)",
        "(5, 1, NULL, 5, 0, NULL, NULL)",
    )
    live = canonical.live_rows(resolve(connection, mapping()))
    assert not copies.may_be(connection, live)
    assert copies.copies(connection, live) == (0, 0)


def test_a_duplicate_that_is_merely_warned_about_migrates(connection: sa.Connection) -> None:
    insert(connection, "(1, 1, 'A', 1, 0, NULL, NULL)", "(2, 1, 'A', 2, 0, NULL, NULL)")
    assert {row["outcome"] for row in classified(connection, mapping()).values()} == {"migrated"}


NOT_A_NUMBER = (None, "not_a_number")
MISSING = (None, "missing")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("smallint", "32767", (Decimal(32767), "ok")),
        ("bigint", "9223372036854775807", (Decimal("9223372036854775807"), "ok")),
        ("numeric", "0.10", (Decimal("0.10"), "ok")),
        ("numeric", "'NaN'", NOT_A_NUMBER),
        ("numeric", "'Infinity'", NOT_A_NUMBER),
        ("numeric", "'-Infinity'", NOT_A_NUMBER),
        ("real", "16777216", (Decimal(16777216), "ok")),
        ("real", "123456.78", (Decimal("123456.78"), "ok")),
        ("real", "0.1", (Decimal("0.1"), "ok")),
        ("real", "1e30", (Decimal("1e30"), "ok")),
        ("real", "'NaN'", NOT_A_NUMBER),
        ("real", "'-Infinity'", NOT_A_NUMBER),
        ("double precision", "9007199254740991", (Decimal(9007199254740991), "ok")),
        ("double precision", "'Infinity'", NOT_A_NUMBER),
        ("text", "'7'", (Decimal(7), "ok")),
        ("text", "' 7 '", (Decimal(7), "ok")),
        ("text", "'5.0'", (Decimal("5.0"), "ok")),
        ("text", "'-.5'", (Decimal("-0.5"), "ok")),
        ("text", "'+5.'", (Decimal(5), "ok")),
        ("text", "'1e3'", (Decimal(1000), "ok")),
        ("text", "'1E-3'", (Decimal("0.001"), "ok")),
        ("text", "''", MISSING),
        ("text", "' '", MISSING),
        ("character(9)", "''", MISSING),
        ("text", "'.'", NOT_A_NUMBER),
        ("text", "'-'", NOT_A_NUMBER),
        ("text", "'#REF!'", NOT_A_NUMBER),
        ("text", "'1,5'", NOT_A_NUMBER),
        ("text", "'1,234'", NOT_A_NUMBER),
        ("text", "'1 000'", NOT_A_NUMBER),
        ("text", "'1_000'", NOT_A_NUMBER),
        ("text", "'0x10'", NOT_A_NUMBER),
        ("text", "'1e99999'", NOT_A_NUMBER),
        ("text", "'NaN'", NOT_A_NUMBER),
        ("text", "'infinity'", NOT_A_NUMBER),
        ("text", "'seven'", NOT_A_NUMBER),
        ("text", "E'7\\n8'", NOT_A_NUMBER),
        ("text", "'٣'", NOT_A_NUMBER),
        ("text", "repeat('9', 200000)", NOT_A_NUMBER),
        ("varchar(9)", "'7'", (Decimal(7), "ok")),
        ("character(9)", "'7'", (Decimal(7), "ok")),
        ("text", "NULL", (None, "missing")),
        ("real", "NULL", (None, "missing")),
        ("numeric", "NULL", (None, "missing")),
        ("smallint", "NULL", (None, "missing")),
    ],
)
def test_a_number_is_exact_whatever_it_is_kept_as_and_anything_else_is_said_to_be_none(
    connection: sa.Connection, kind: str, value: str, expected: tuple[Decimal | None, str]
) -> None:
    execute(connection, f"ALTER TABLE stock_items ADD q {kind}, ADD r {kind}")
    execute(
        connection,
        f"INSERT INTO stock_items (id, company_id, q, r) VALUES (1, 1, {value}, {value})",
    )
    (row,) = classified(connection, mapping(**part("source", quantity="q", reserved="r"))).values()
    number, state = expected
    assert (row["quantity"], row["quantity_state"]) == expected
    assert row["reserved"] == (number or 0)
    assert row["reserved_state"] == ("ok" if state == "missing" else state)
    rule = {"ok": None, "missing": "quantity_missing", "not_a_number": "quantity_not_a_number"}
    assert row["rule"] == rule[state]


def test_a_reserved_that_is_no_number_keeps_its_record_too(connection: sa.Connection) -> None:
    execute(connection, "ALTER TABLE stock_items ALTER reserved TYPE numeric")
    assert outcome(connection, "(1, 1, 'A', 5, 'NaN', NULL, NULL)") == (
        "quarantined",
        "quantity_not_a_number",
    )


def test_sums_of_small_numbers_do_not_overflow(connection: sa.Connection) -> None:
    execute(
        connection,
        "ALTER TABLE stock_items ALTER quantity TYPE smallint, ALTER reserved TYPE smallint",
    )
    insert(connection, *(f"({n}, 1, 'A{n}', 32767, 32767, NULL, NULL)" for n in range(1, 4)))
    select = canonical.records(resolve(connection, mapping()))
    (sums,) = rows(
        connection,
        f"SELECT sum(quantity) AS q, sum(quantity + reserved) AS both FROM ({select}) AS r",
    )
    assert sums == {"q": 98301, "both": 196602}


def test_no_reserved_column_means_that_nothing_is_reserved(connection: sa.Connection) -> None:
    source = {key: value for key, value in DEFINITION["source"].items() if key != "reserved"}
    insert(connection, "(1, 1, 'A', 5, 9, NULL, NULL)")
    (row,) = classified(connection, mapping(source=source)).values()
    assert (row["reserved"], row["reserved_state"]) == (0, "ok")


def test_reserved_may_be_computed_from_other_tables(connection: sa.Connection) -> None:
    execute(
        connection,
        "CREATE TABLE lines (item bigint, open smallint); "
        "INSERT INTO lines VALUES (1, 2), (1, 3), (2, 0)",
    )
    insert(connection, "(1, 1, 'A', 9, 0, NULL, NULL)", "(3, 1, 'B', 9, 0, NULL, NULL)")
    reserved = {"sql": "(SELECT sum(l.open) FROM lines AS l WHERE l.item = s.id)"}
    found = classified(connection, mapping(**part("source", reserved=reserved)))
    assert [found[key]["reserved"] for key in "13"] == [5, 0]


def test_a_join_reaches_the_company(connection: sa.Connection) -> None:
    execute(
        connection,
        """
        CREATE TABLE products (id bigint PRIMARY KEY, owner smallint);
        INSERT INTO products VALUES (7, 1), (8, NULL), (9, 2);
        ALTER TABLE stock_items DROP company_id, ADD product_id bigint;
        INSERT INTO stock_items (id, product_id, sku, quantity)
        VALUES (1, 7, 'A', 1), (2, 8, 'A', 2), (3, 9, 'A', 3), (4, 99, 'A', 4);
        """,
    )
    source = part(
        "source",
        company={"sql": "p.owner"},
        joins="LEFT JOIN products AS p ON p.id = s.product_id",
        item={"sql": "s.sku || '-' || p.id"},
    )
    found = classified(connection, mapping(**source))
    assert {
        key: (row["company_key"], row["company_found"], row["item_key"], row["outcome"])
        for key, row in found.items()
    } == {
        "1": (1, True, "A-7", "migrated"),
        "2": (None, False, "A-8", "quarantined"),
        "3": (2, True, "A-9", "migrated"),
        "4": (None, False, None, "quarantined"),
    }
    told = rows(connection, canonical.companies(resolve(connection, mapping(**source))))
    assert {row["company_name"]: row["stock_records"] for row in told} == {
        "Acme": 1,
        "Bolt": 1,
        "Idle": 0,
    }


def test_keys_keep_their_types_and_read_as_one_text(connection: sa.Connection) -> None:
    execute(
        connection,
        "ALTER TABLE stock_items DROP CONSTRAINT stock_items_pkey, ADD lot character(3) NOT NULL "
        "DEFAULT 'x', ADD PRIMARY KEY (lot, id)",
    )
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)")
    resolved = resolve(connection, mapping(**part("source", key=["lot", "id"])))
    assert columns.keys(resolved) == ["key_1", "key_2"]
    (row,) = rows(connection, canonical.records(resolved))
    assert (row["key_1"], row["key_2"], row["key_text"]) == ("x  ", 1, "x, 1")
    assert columns.same_key(resolved, "a", "b") == "a.key_1 = b.key_1 AND a.key_2 = b.key_2"
    assert columns.key_of_source(resolved, "p") == 's."lot" = p.key_1 AND s."id" = p.key_2'
    assert columns.source_keys(resolved) == 's."lot", s."id"'


def test_companies_are_all_there_with_their_default_if_there_is_exactly_one(
    connection: sa.Connection,
) -> None:
    execute(connection, "INSERT INTO locations VALUES (21, 2, 'Second', 'M', true)")
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)", "(2, 1, 'B', 5, 0, NULL, now())")
    found = rows(connection, canonical.companies(resolve(connection, mapping())))
    assert sorted(found, key=lambda row: row["company_key"]) == [
        {"company_key": 1, "company_name": "Acme", "default_locations": 1, "location_key": 10,
         "stock_records": 2},
        {"company_key": 2, "company_name": "Bolt", "default_locations": 2, "location_key": None,
         "stock_records": 0},
        {"company_key": 3, "company_name": "Idle", "default_locations": 0, "location_key": None,
         "stock_records": 0},
    ]  # fmt: skip


def test_default_locations_are_all_that_meet_every_condition(connection: sa.Connection) -> None:
    execute(
        connection,
        """
        INSERT INTO locations VALUES (90, 9, 'Stray', 'M', true), (91, NULL, 'Lost', 'M', true),
                                     (92, 1, 'Odd', NULL, true);
        """,
    )
    found = rows(connection, canonical.default_locations(resolve(connection, mapping())))
    assert sorted((r["location_key"], r["company_key"], r["company_found"]) for r in found
                  if r["company_key"] is not None) == [
        (10, 1, True), (20, 2, True), (90, 9, False), (92, 1, True)]  # fmt: skip
    assert [r["company_found"] for r in found if r["location_key"] == 91] == [False]
    narrow = mapping(**part("locations", default={"is_default": True, "code": None}))
    found = rows(connection, canonical.default_locations(resolve(connection, narrow)))
    assert [row["location_key"] for row in found] == [92]


def test_a_table_of_locations_that_is_still_to_be_added_holds_none(
    connection: sa.Connection,
) -> None:
    execute(connection, "DROP TABLE locations; ALTER TABLE stock_items DROP location_id")
    insert_without_location = "INSERT INTO stock_items (id, company_id, quantity) VALUES (1, 1, 5)"
    execute(connection, insert_without_location)
    resolved = resolve(connection, mapping())
    assert rows(connection, canonical.default_locations(resolved)) == []
    (row,) = rows(connection, canonical.records(resolved))
    assert (row["outcome"], row["location_key"], row["location_own"]) == ("migrated", None, None)
    told = rows(connection, canonical.companies(resolved))
    assert [row["default_locations"] for row in told] == [0, 0, 0]


def test_the_relations_have_the_columns_that_suites_and_reports_are_written_against(
    connection: sa.Connection,
) -> None:
    resolved = resolve(connection, mapping())

    def columns(select: str) -> set[str]:
        return set(connection.execute(sa.text(escaped(f"{select} LIMIT 0"))).keys())

    assert columns(canonical.records(resolved)) >= {
        "key_1", "key_text", "company_key", "company_found", "item_key", "quantity", "reserved",
        "quantity_state", "reserved_state", "unread", "unconverted", "location_key",
        "location_own", "outcome", "rule", "row_hash",
    }  # fmt: skip
    assert columns(canonical.companies(resolved)) == {
        "company_key", "company_name", "default_locations", "location_key", "stock_records",
    }  # fmt: skip
    assert columns(canonical.default_locations(resolved)) == {
        "location_key", "company_key", "company_found",
    }  # fmt: skip


def test_a_rule_has_a_condition_whatever_its_action_in_the_order_of_application(
    connection: sa.Connection,
) -> None:
    resolved = resolve(connection, mapping())
    assert list(conditions(resolved)) == list(resolved.mapping.rules.actions())


PLANNED = "CREATE TABLE planned AS SELECT * FROM (VALUES (1::bigint, {0}::bigint)) AS v(company_key, location_key)"  # noqa: E501


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SELECT 1", ("migrated", None, 10)),
        ("UPDATE locations SET is_default = false", ("migrated", None, 10)),
        ("DELETE FROM locations WHERE id = 10", ("quarantined", LATE_RULE, None)),
        (
            "UPDATE locations SET company_id = 2 WHERE id = 10",
            ("quarantined", LATE_RULE, None),
        ),
        (
            "UPDATE stock_items SET company_id = 2",
            ("quarantined", LATE_RULE, None),
        ),
    ],
)
def test_a_chunk_gives_the_location_that_was_planned_with_as_long_as_it_stands(
    connection: sa.Connection, change: str, expected: tuple[str, str | None, int | None]
) -> None:
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)")
    execute(connection, PLANNED.format(10))
    execute(connection, change)
    (row,) = classified(connection, mapping(), planned="planned").values()
    assert (row["outcome"], row["rule"], row["default_location"]) == expected


def test_a_chunk_sees_its_own_snapshots_records_and_their_flag(connection: sa.Connection) -> None:
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)", "(2, 1, 'B', 5, 0, NULL, NULL)")
    execute(
        connection,
        PLANNED.format(10)
        + "; CREATE TABLE snapshot AS SELECT 2::bigint AS key_1, 7::bigint AS position, "
        "3 AS chunk, true AS item_duplicate",
    )
    strict = mapping(rules={"item_duplicate": "quarantine"})
    found = classified(connection, strict, chunked="snapshot", planned="planned")
    assert [(k, r["position"], r["chunk"], r["rule"]) for k, r in found.items()] == [
        ("2", 7, 3, "item_duplicate")
    ]


def test_written_columns_are_the_target_and_what_is_touched(connection: sa.Connection) -> None:
    resolved = resolve(connection, mapping(touch={"updated_at": {"sql": "now()"}}))
    assert columns.written_columns(resolved) == ["location_id", "updated_at"]
    assert columns.before_columns(resolved) == {
        "location_id": "before_1",
        "updated_at": "before_2",
    }


def hashed(connection: sa.Connection, mapping: StockMapping) -> int:
    (row,) = classified(connection, mapping).values()
    return int(row["row_hash"])


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("UPDATE stock_items SET location_id = 10", True),
        ("UPDATE stock_items SET updated_at = now()", True),
        ("SET LOCAL TimeZone = 'Asia/Tokyo'", True),
        ("SET LOCAL DateStyle = 'German'", True),
        ("SET LOCAL IntervalStyle = 'iso_8601'", True),
        ("SET LOCAL bytea_output = 'escape'", True),
        ("UPDATE stock_items SET quantity = 6", False),
        ("UPDATE stock_items SET sku = NULL", False),
        ("UPDATE stock_items SET company_id = 2", False),
        ("UPDATE stock_items SET seen = seen + interval '1 ms'", False),
        ("UPDATE stock_items SET tags = '{a}'", False),
        ("UPDATE stock_items SET about = '{\"a\": 2}'", False),
    ],
)
def test_a_rows_hash_changes_with_what_the_application_writes_and_with_nothing_else(
    connection: sa.Connection, change: str, same: bool
) -> None:
    execute(
        connection,
        """
        ALTER TABLE stock_items ADD seen timestamp(3) with time zone DEFAULT '2026-01-01 12:00Z',
            ADD made date DEFAULT '2026-02-03', ADD tags text[] DEFAULT '{a,b}',
            ADD about json DEFAULT '{"a": 1}', ADD sums jsonb DEFAULT '{"a": 1}',
            ADD ref uuid DEFAULT '00000000-0000-0000-0000-000000000001',
            ADD wait interval DEFAULT '1 day 2 hours', ADD raw bytea DEFAULT '\\x00ff',
            ADD hours timetz DEFAULT '12:00+02', ADD rate double precision DEFAULT 0.1,
            ADD located text GENERATED ALWAYS AS (COALESCE(location_id, 0) || '!') STORED;
        """,
    )
    insert(connection, "(1, 1, 'A', 5, 0, NULL, NULL)")
    touching = mapping(touch={"updated_at": {"sql": "now()"}})
    before = hashed(connection, touching)
    execute(connection, change)
    assert (hashed(connection, touching) == before) is same


@dataclass(frozen=True)
class Item:
    """A stock item, as the model sees it."""

    company: int | None
    sku: str | None
    quantity: str | None
    reserved: str | None
    location: int | None
    deleted: bool


NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
OWNERS = {10: 1, 11: 1, 20: 2}

items = st.builds(
    Item,
    company=st.sampled_from([1, 2, 3, 9, None]),
    sku=st.sampled_from(["A", "B", "b", "", None]),
    quantity=st.none()
    | st.integers(-3, 9).map(str)
    | st.sampled_from(["7.50", " 3 ", "1e1", "-0", "", "x", "NaN", "Infinity", "#REF!", "5 6"])
    | st.text("0123456789.eE+- ", max_size=6),
    reserved=st.none() | st.integers(0, 9).map(str) | st.sampled_from(["NaN", "4.5", "-Infinity"]),
    location=st.sampled_from([None, None, None, 10, 11, 20, 99]),
    deleted=st.booleans() | st.just(False),
)
strict, lenient = st.sampled_from(["quarantine", "fail"]), st.sampled_from(["warn", "quarantine"])
rules = st.fixed_dictionaries(
    {
        "company_missing": strict,
        "location_foreign": strict,
        "quantity_missing": strict,
        "quantity_not_a_number": strict,
        "negative_quantity": lenient,
        "reserved_exceeds_quantity": lenient,
        "item_duplicate": lenient,
        "default_location_ambiguous": strict,
    }
)


def missing(text: str | None) -> bool:
    """Whether there is nothing but blanks."""
    return not (text or "").strip(" ")


def number(text: str | None) -> Decimal | None:
    """The number that a text holds, if it holds one and nothing else but blanks."""
    return Decimal(text.strip(" ")) if text and NUMBER.fullmatch(text.strip(" ")) else None


def expected(found: list[Item], actions: dict[str, str], basis: str) -> list[tuple[Any, ...]]:
    """The rules in plain words: outcome, rule, quantity and reserved of every item."""
    copies = Counter((i.company, i.sku) for i in found if not i.deleted)
    told: list[tuple[Any, ...]] = []
    for item in found:
        quantity, reserved = number(item.quantity), number(item.reserved)
        own = item.company is not None and OWNERS.get(item.location or 0) == item.company
        broken = {
            "company_ambiguous": False,
            "company_missing": item.company not in {1, 2, 3},
            "location_foreign": item.location is not None and not own,
            "quantity_missing": missing(item.quantity),
            "quantity_not_a_number": (not missing(item.quantity) and quantity is None)
            or (item.reserved is not None and reserved is None),
            "negative_quantity": quantity is not None and quantity < 0,
            "reserved_exceeds_quantity": basis == "gross"
            and quantity is not None
            and 0 <= quantity < (reserved or 0),
            "target_key_missing": False,
            "target_key_shared": False,
            "target_exists": False,
            "quantity_inexact": False,
            "value_unconvertible": False,
            "item_duplicate": None not in (item.company, item.sku)
            and copies[item.company, item.sku] > 1,
            "default_location_ambiguous": item.company == 2,
        }
        rule = next((r for r, action in actions.items() if action != "warn" and broken[r]), None)
        if item.deleted:
            outcome, rule = "skipped", "deleted"
        elif own:
            outcome, rule = "already", None
        else:
            outcome = "quarantined" if rule else "migrated"
        told.append((outcome, rule, quantity, reserved or Decimal(0)))
    return told


@pytest.fixture(scope="module")
def modelled(emptied: Database) -> Iterator[tuple[sa.Connection, ResolvedMapping]]:
    """A transaction with texts for quantities, and a company with two default locations."""
    with emptied.engine.connect() as connection:
        execute(
            connection,
            """
            ALTER TABLE stock_items ALTER quantity TYPE text, ALTER reserved DROP NOT NULL,
                                    ALTER reserved TYPE numeric;
            INSERT INTO locations VALUES (22, 2, 'Second', 'M', true);
            """,
        )
        yield connection, resolve(connection, mapping())
        connection.rollback()


@settings(max_examples=200, deadline=None)
@given(st.lists(items, min_size=1, max_size=15), rules, st.sampled_from(["gross", "net"]))
def test_the_rules_agree_with_a_model_in_plain_python(
    modelled: tuple[sa.Connection, ResolvedMapping],
    found: list[Item],
    actions: dict[str, str],
    basis: str,
) -> None:
    connection, resolved = modelled
    chosen = replace(resolved, mapping=mapping(rules=actions, quantity_basis=basis))
    execute(connection, "TRUNCATE stock_items")
    connection.execute(
        sa.text("""
            INSERT INTO stock_items (id, company_id, sku, quantity, reserved, location_id,
                                     deleted_at)
            VALUES (:id, :company, :sku, :quantity, CAST(:reserved AS numeric), :location,
                    CASE WHEN :deleted THEN now() END)
        """),
        [{"id": n, **vars(item)} for n, item in enumerate(found)],
    )
    told = sorted(rows(connection, canonical.records(chosen)), key=lambda row: row["key_1"])
    assert [
        (row["outcome"], row["rule"], row["quantity"], row["reserved"]) for row in told
    ] == expected(found, chosen.mapping.rules.actions(), basis)
