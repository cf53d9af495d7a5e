"""Quantities of every type, and texts on their way into the target: whole migrations.

What a single text becomes is tested in `test_conversions.py`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import quarantine, verbs
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration.report.documents import write_report
from inventory_migration_tests import hostile, stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo

LEDGER = "inventory_migration"

EXACT: dict[str, list[str]] = {
    "smallint": ["32767"] * 5,
    "integer": ["2147483647"] * 5,
    "bigint": ["9223372036854775807"] * 5,
    "numeric": ["0.1", "1e-20", "123456789012345678901234567890.5", "7", "0.30"],
    "numeric(12,3)": ["0.001", "999999999.999", "5", "5.000", "0"],
    "real": ["16777216", "123456.78", "0.1", "1e30", "3"],
    "double precision": ["9007199254740991", "0.1", "0.2", "1e300", "5e-324"],
    "text": ["5.0", " 7 ", "+3", ".5", "1e3"],
    "character varying(9)": ["5.0", " 7 ", "+3", ".5", "1e3"],
    "character(9)": ["5.0", " 7 ", "+3", ".5", "1e3"],
}
"""What five records hold, by the type of quantity and reserved."""

LEVELS: dict[str, Any] = {
    "shape": "stock_level",
    "table": "levels",
    "record": {"item": "id"},
    "location": "place",
    "on_hand": "there",
    "reserved": "promised",
    "add": True,
}


def csv(*changes: str) -> str:
    """The shop as a spreadsheet was loaded into it: every column a text."""
    return (
        "ALTER TABLE stock_items ALTER quantity TYPE text, ALTER reserved TYPE text, "
        "ALTER reserved DROP NOT NULL, ADD counted_at text, ADD price text;"
        + "".join(f"UPDATE stock_items SET {change};" for change in changes)
    )


def as_(column: str, *steps: Any) -> dict[str, Any]:
    return {"column": column, "as": [*steps]}


def mapping(
    source: dict[str, Any] | None = None, target: dict[str, Any] | None = None, **changes: Any
) -> StockMapping:
    return stage.mapping(
        source={**stage.DEFINITION["source"], **(source or {})},
        target=target or stage.DEFINITION["target"],
        thresholds={"quarantined_percent": 100},
        **changes,
    )


def aside(database: Database) -> list[str]:
    """Key, rule and reason of what was put aside."""
    return database.psql(
        f"SELECT key_text, rule, reason FROM {LEDGER}.outcome WHERE outcome = 'quarantined' "
        "ORDER BY position"
    ).splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("target", [stage.DEFINITION["target"], LEVELS], ids=["column", "level"])
@pytest.mark.parametrize("kind", EXACT)
def test_units_are_exact_whatever_type_holds_them(
    database: Database, kind: str, target: dict[str, Any]
) -> None:
    stage.shop(database, items=5)
    database.psql(
        f"ALTER TABLE stock_items ALTER quantity TYPE {kind} USING '0', "
        f"ALTER reserved DROP DEFAULT, ALTER reserved TYPE {kind} USING '0';"
        + "".join(
            f"UPDATE stock_items SET quantity = '{held}', reserved = '{held}' WHERE id = {n};"
            for n, held in enumerate(EXACT[kind], start=1)
        )
    )
    found = stage.migrate(database, mapping(target=target))
    assert found.proof.differences == []
    assert stage.outcomes(database) == {"migrated": 5}
    counted = database.psql(
        "SELECT sum(units_before), sum(units_after), sum(reserved_before), sum(reserved_after) "
        f"FROM {LEDGER}.chunk"
    )
    # Python's own sum would round at 28 digits.
    with localcontext(prec=2000):
        units = f"{sum(map(Decimal, EXACT[kind])):f}"
    assert counted == "|".join([units] * 4)
    if target is LEVELS:
        said = database.psql("SELECT sum(there), sum(promised) FROM levels")
        assert said == "|".join([units] * 2)
        undo(database, mapping(target=target))
        assert database.psql("SELECT count(*) FROM levels") == "0"


def test_a_text_that_is_no_plain_number_is_put_aside_as_it_stands(database: Database) -> None:
    stage.shop(database, items=7)
    database.psql(
        csv(
            "quantity = '1,234' WHERE id = 1", "quantity = '#REF!' WHERE id = 2",
            "quantity = '' WHERE id = 3", "quantity = ' 7 ', reserved = '' WHERE id = 4",
            "quantity = '5.0', reserved = 'two' WHERE id = 5", "quantity = NULL WHERE id = 6",
        )
    )  # fmt: skip
    stage.migrate(database, mapping())
    unread = "quantity_not_a_number|the quantity or the reserved quantity is not a finite number"
    missing = "quantity_missing|the quantity is NULL or blank"
    assert aside(database) == [
        f'1|{unread}: quantity "1,234"',
        f'2|{unread}: quantity "#REF!"',
        f"3|{missing}",
        f'5|{unread}: reserved "two"',
        f"6|{missing}",
    ]
    assert stage.outcomes(database) == {"migrated": 2, "quarantined": 5}


def test_a_text_that_means_harm_is_told_as_it_is_and_harms_no_page(
    database: Database, tmp_path: Path
) -> None:
    stage.shop(database, companies=1, items=len(hostile.SPELLS))
    database.psql(
        csv(*(
            f"quantity = {hostile.text(spell)} WHERE id = {number}"
            for number, spell in enumerate(hostile.SPELLS, start=1)
        ))
    )  # fmt: skip
    stage.migrate(database, mapping())
    target = verbs.open_target(database.url)
    listed = quarantine.list_records(target, "shop", limit=100)["records"]
    assert {record["key"]: record["reason"].partition(": quantity ")[2] for record in listed} == {
        str(number): f'"{spell}"' for number, spell in enumerate(hostile.SPELLS, start=1)
    }
    written = write_report(target, mapping(), tmp_path)
    page, data = (Path(written[form] or "").read_text() for form in ("markdown", "json"))
    assert json.loads(data)["summary"]["quarantined"] == {
        "quantity_not_a_number": len(hostile.SPELLS)
    }
    assert r"\<script\>" in page
    assert not {"\x1b", "\u202e", "\u2066", "\r"} & set(page)
    assert not re.search(r"(?<!\\)<script", page)


def test_what_is_no_finite_number_is_told_also_where_it_is_no_text(database: Database) -> None:
    stage.shop(database, items=1)
    database.psql(
        "ALTER TABLE stock_items ALTER quantity TYPE real; UPDATE stock_items SET quantity = 'NaN'"
    )
    stage.migrate(database, mapping())
    assert aside(database)[0].endswith('is not a finite number: quantity "NaN"')


@pytest.mark.parametrize("target", [stage.DEFINITION["target"], LEVELS], ids=["column", "level"])
def test_a_number_in_groups_is_accepted_where_the_mapping_says_so(
    database: Database, target: dict[str, Any]
) -> None:
    stage.shop(database, items=4)
    database.psql(
        csv(
            "quantity = '1,234', reserved = ' 1,000.0 ' WHERE id = 1",
            "quantity = E'\\u00a012\\n', reserved = NULL WHERE id = 2",
            "quantity = '1,23' WHERE id = 3", "quantity = '1.234' WHERE id = 4",
        )
    )  # fmt: skip
    chosen = mapping(
        {"quantity": as_("quantity", "numeric"), "reserved": as_("reserved", "trim", "numeric")},
        target,
    )
    assert stage.migrate(database, chosen).proof.differences == []
    assert [row.rpartition(": ")[2] for row in aside(database)] == ['quantity "1,23"']
    assert database.psql(
        f"SELECT key_1, quantity, reserved FROM {LEDGER}.snapshot_1 ORDER BY 1"
    ).splitlines() == ["1|1234|1000.0", "2|12|0", "3||0", "4|1.234|1"]
    if target is LEVELS:
        assert database.psql("SELECT item, there, promised FROM levels ORDER BY 1") == (
            "1|1234|1000.0\n2|12|0\n4|1.234|1"
        )


TIMED = {
    "counted_at": as_("counted_at", {"timestamptz": "DD.MM.YYYY HH24:MI", "zone": "Europe/Berlin"}),
    "price": as_("price", {"numeric": {"thousands": ".", "decimal": ","}}),
    "label": {"sql": "'#' || s.sku", "as": ["trim", "upper"]},
}


def timed(database: Database, target: dict[str, Any]) -> StockMapping:
    stage.shop(database, items=6)
    database.psql(
        csv(
            "sku = '  Sku  ' || id, price = '1.234,50', counted_at = '1.7.2024 9:05'",
            "counted_at = '31.03.2024 02:30' WHERE id = 2",
            "counted_at = '2024-07-01 09:05', price = 'free' WHERE id = 3",
            "counted_at = '  ', price = NULL WHERE id = 4",
            "counted_at = repeat('x', 1000) WHERE id = 5",
        )
    )
    return mapping(
        {"item": as_("sku", "trim", "collapse_space", "upper"), "quantity": "quantity"}, target
    )


LEVELLED = """
    SELECT item, to_char(counted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), price, label, sku
    FROM levels ORDER BY item
"""


@pytest.mark.parametrize("sync", [False, True], ids=["closed", "in step"])
def test_values_are_converted_on_their_way_into_a_level(database: Database, sync: bool) -> None:
    values = {**TIMED, "sku": {"from": "item"}}
    target = {**LEVELS, "values": values, "sync": sync}
    chosen = timed(database, target)
    assert stage.migrate(database, chosen).proof.differences == []
    why = "value_unconvertible|a value for the target does not convert"
    assert aside(database) == [
        f'2|{why}: counted_at "31.03.2024 02:30"',
        f'3|{why}: counted_at "2024-07-01 09:05", price "free"',
        f'5|{why}: counted_at "{"x" * 80}..."',
    ]
    kinds = database.psql(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute WHERE "
        "attrelid = 'levels'::regclass AND attname IN ('counted_at', 'price', 'label') ORDER BY 1"
    )
    assert kinds == "counted_at|timestamp with time zone\nlabel|text\nprice|numeric"
    there = "2024-07-01 07:05|1234.50"
    assert database.psql(LEVELLED).splitlines() == [
        f"1|{there}|#  SKU  1|SKU 1", "4|||#  SKU  4|SKU 4", f"6|{there}|#  SKU  6|SKU 6"
    ]  # fmt: skip
    if sync:
        # A record that arrives, or is mended, is read in the same way by the trigger.
        database.psql(
            "UPDATE stock_items SET counted_at = '02.07.2024 00:00' WHERE id = 2;"
            "INSERT INTO stock_items (id, company_id, sku, quantity, counted_at) VALUES "
            "(7, 1, ' new', '1', 'never'), (8, 1, ' New', '2', '1.1.2025 0:00')"
        )
        assert (
            database.psql(LEVELLED).splitlines()[1] == "2|2024-07-01 22:00|1234.50|#  SKU  2|SKU 2"
        )
        assert database.psql("SELECT item, sku, there FROM levels WHERE item > 6") == "8|NEW|2"
        database.psql("UPDATE stock_items SET counted_at = '' WHERE id = 7")
        assert database.psql("SELECT sku FROM levels WHERE counted_at IS NULL") == "SKU 4\nNEW"
    undo(database, chosen)
    assert database.psql("SELECT count(*) FROM levels") == "0"


def test_a_value_that_was_changed_since_keeps_its_level_when_all_goes_back(
    database: Database,
) -> None:
    chosen = timed(database, {**LEVELS, "values": TIMED})
    stage.migrate(database, chosen)
    database.psql("UPDATE levels SET counted_at = now() WHERE item = 1")
    undo(database, chosen)
    assert database.psql("SELECT item FROM levels") == "1"


def test_the_server_is_asked_before_anything_moves_and_foretells_what_will_be(
    database: Database,
) -> None:
    chosen = timed(database, {**LEVELS, "values": TIMED})
    predicted = verbs.test(verbs.open_target(database.url), chosen)
    assert predicted["quarantined"] == {"value_unconvertible": 3}
    stage.migrate(database, chosen)
    assert predicted["records"]["migrated"] == stage.outcomes(database)["migrated"] == 3


def test_a_blank_reserved_is_nothing_reserved_and_a_copy_is_found_behind_its_spelling(
    database: Database,
) -> None:
    stage.shop(database, companies=1, items=3)
    database.psql(
        csv("reserved = ' '", "sku = E' ab\\u00a0 c' WHERE id = 1", "sku = 'AB C' WHERE id = 3")
    )
    tidy = as_("sku", "trim", "collapse_space", "upper")
    stage.migrate(database, mapping({"item": tidy}, rules={"item_duplicate": "quarantine"}))
    assert [row.split("|")[:2] for row in aside(database)] == [
        ["1", "item_duplicate"], ["3", "item_duplicate"]
    ]  # fmt: skip
    assert database.psql(f"SELECT DISTINCT reserved FROM {LEDGER}.snapshot_1") == "0"


def test_three_spellings_of_a_company_are_one(database: Database) -> None:
    stage.shop(database, companies=2, items=4)
    database.psql(
        "ALTER TABLE companies ALTER id DROP IDENTITY;"
        "ALTER TABLE companies ALTER id TYPE text USING (ARRAY['ACME', 'BOLT'])[id];"
        "ALTER TABLE stock_items ALTER company_id TYPE text "
        "USING (ARRAY['Acme', ' acme ', 'ACME', 'other'])[id]"
    )
    stage.migrate(database, mapping({"company": as_("company_id", "trim", "upper")}))
    assert stage.outcomes(database) == {"migrated": 3, "quarantined": 1}
    assert (
        database.psql(
            "SELECT DISTINCT l.company_id FROM stock_items s "
            "JOIN locations l ON l.id = s.location_id"
        )
        == "ACME"
    )
    assert [row.split("|")[:2] for row in aside(database)] == [["4", "company_missing"]]


@pytest.mark.parametrize(
    ("source", "values", "why"),
    [
        ({"quantity": as_("quantitty", "numeric")}, {}, "no column quantitty; did you mean"),
        ({"quantity": as_("deleted_at", "numeric")}, {}, "source.quantity: is timestamp with"),
        ({"item": {"sql": "s.nowhere", "as": ["trim"]}}, {}, "source.item: the server refuses it"),
        ({}, {"at": as_("updated_att", {"timestamptz": "YYYY-MM-DD"})}, "target.values.at: table"),
        ({}, {"at": as_("updated_at", {"timestamptz": "YYYY-MM-DD"})}, "timestamptz reads text"),
        (
            {},
            {"at": as_("sku", {"timestamptz": "YYYY-MM-DD", "zone": "Europe/Nowhere"})},
            'target.values.at: the server refuses it: time zone "Europe/Nowhere" not recognized',
        ),
    ],
)
def test_what_cannot_be_read_so_is_refused_before_anything_is_written(
    database: Database, source: dict[str, Any], values: dict[str, Any], why: str
) -> None:
    stage.shop(database, items=1)
    with pytest.raises(MappingInvalid) as refused:
        verbs.test(verbs.open_target(database.url), mapping(source, {**LEVELS, "values": values}))
    assert why in str(refused.value)
