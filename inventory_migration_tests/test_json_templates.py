"""Allocations in the form that the application has: entries by location, or a list of them.

What every form promises is tested in `test_shapes.py`, and the usual one in
`test_allocation_json.py`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from inventory_migration import verbs
from inventory_migration.database import escaped
from inventory_migration.engine import ledger, plan, prediction, proof, trail
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.engine.undo_scope import WHOLE
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import hostile, stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_rollback import undo

ON_HAND, RESERVED = {"from": "on_hand"}, {"from": "reserved"}
PLACE, MARKER, WRITTEN_AT = {"from": "location"}, {"from": "marker"}, {"from": "written_at"}

LIST: dict[str, Any] = {
    "as": "list",
    "entry": {"qty": ON_HAND, "held": RESERVED, "loc": PLACE, "unit": "pcs"},
}
OBJECT: dict[str, Any] = {"as": "object", "entry": {"qty": ON_HAND, "held": RESERVED}}

PLACES = {
    name: said
    for name, said in stage.DEFINITION["locations"].items()
    if name not in {"create", "add"}
}
LOCATIONS = """
    CREATE TABLE locations (id {kind} PRIMARY KEY, company_id bigint, name text, code text,
                            is_default boolean);
    ALTER TABLE stock_items ADD allocations jsonb;
"""


def mapping(target: dict[str, Any], **changes: Any) -> StockMapping:
    return stage.mapping(
        target={"shape": "allocation_json", "column": "allocations", **target},
        thresholds={"quarantined_percent": 100},
        **{"locations": PLACES, **changes},
    )


def shop(database: Database, *, items: int, kind: str = "bigint", companies: int = 1) -> None:
    """The application with its locations: 10 and 11 are the first company's, 20 the second's."""
    stage.shop(database, companies=companies, items=items)
    database.psql(
        LOCATIONS.format(kind=kind)
        + "INSERT INTO locations VALUES ('10', 1, 'Main', 'M', true), ('11', 1, 'Shelf', 'S', NULL)"
        + ", ('20', 2, 'Other', 'M', true);" * (companies > 1)
    )


def said(database: Database) -> list[str]:
    """What each record's allocations say; - where there are none."""
    return database.psql(
        "SELECT COALESCE(allocations::text, '-') FROM stock_items ORDER BY id"
    ).splitlines()


def differing(database: Database, chosen: StockMapping) -> list[tuple[str, list[str]]]:
    """The kinds of difference that the proof finds, each with the keys of the records."""
    with database.engine.connect() as connection:
        current = ledger.current(connection, chosen.name)
        proved = proof.prove(connection, plan.resolve(connection, chosen), current)
    return sorted((found.kind, found.sample) for found in proved.differences)


def test_a_mapping_that_says_what_is_usual_is_the_mapping_of_before() -> None:
    usual = mapping({})
    assert mapping({"as": "object"}).hash == usual.hash
    others = [
        LIST,
        OBJECT,
        {"entry": {"qty": ON_HAND, "n": 1.5}},
        {"entry": {"qty": ON_HAND, "n": "1.5"}},
    ]
    assert len({usual.hash, *(mapping(target).hash for target in others)}) == 5
    again = usual.model_dump(mode="json", by_alias=True)
    assert StockMapping.model_validate(again) == usual


@pytest.mark.parametrize(
    ("target", "problems"),
    [
        (
            {"as": "list"},
            ["target.entry of a list must name its location, since no key does"],
        ),
        ({"entry": {}}, ["target.entry says nowhere how much is there"]),
        ({"entry": {"held": RESERVED}}, ["target.entry says nowhere how much is there"]),
        (
            {
                "as": "list",
                "entry": {
                    "a": ON_HAND, "b": {"from": "quantity"}, "c": PLACE, "d": {"e": PLACE},
                    "f": {str(n): n for n in range(51)},
                },
            },
            [
                "target.entry: a and b both say what is on hand",
                "target.entry: c and d.e both say the location",
                "target.entry has more than 50 fields beside each other",
            ],
        ),
        ({"entry": {"a": {"from": "company"}}}, ["should be 'on_hand', 'reserved'"]),
        ({"entry": {"a": [1]}}, ["should be a constant, {from: ...} or a set of such fields"]),
    ],
)  # fmt: skip
def test_a_template_that_could_not_be_kept_is_refused_with_all_that_is_wrong(
    target: dict[str, Any], problems: list[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        mapping(target)
    for problem in problems:
        assert problem in str(caught.value).replace("Input s", "s")
    # Under net a quantity has what is reserved taken off, so that both say another thing.
    assert mapping({"entry": {"a": ON_HAND, "b": {"from": "quantity"}}}, quantity_basis="net")


EXACT = ["1.1000000000", "9999999999.9999999999", "0.0000000001", "9007199254740993.0000000000"]


@pytest.mark.parametrize(("kind", "place"), [("bigint", 10), ("text", "10")])
def test_numbers_are_exact_there_and_back_whatever_form_they_stand_in(
    database: Database, kind: str, place: object
) -> None:
    shop(database, items=4, kind=kind)
    database.psql("ALTER TABLE stock_items ALTER quantity TYPE numeric(26,10)")
    for number, quantity in enumerate(EXACT, start=1):
        database.psql(f"UPDATE stock_items SET quantity = {quantity} WHERE id = {number}")
    before = stage.table(database, "stock_items")
    chosen = mapping(
        {
            "as": "list",
            "entry": {
                "at": {"place": PLACE, "as text": {"from": "written_at"}},
                "qty": {"from": "on_hand", "as": "text"},
                "free": {"from": "available"},
                "by": MARKER, "unit": "pcs", "price": 1.50, "open": True, "note": None,
            },
        }
    )  # fmt: skip
    found = stage.migrate(database, chosen)
    assert found.proof.differences == []
    total = str(sum(map(Decimal, EXACT)))
    assert (
        database.psql(
            "SELECT sum((e->>'qty')::numeric), "
            "bool_and((e->'free')::numeric = quantity - reserved) "
            "FROM stock_items, jsonb_array_elements(allocations) e"
        )
        == f"{total}|t"
    )
    counted = "SELECT sum(units_before), sum(units_after) FROM inventory_migration.chunk"
    assert database.psql(counted) == f"{total}|{total}"
    for row, quantity in zip(said(database), EXACT, strict=True):
        (entry,) = json.loads(row, parse_float=Decimal)
        assert entry.pop("free") <= Decimal(quantity)
        assert entry["at"].pop("as text").endswith("Z")
        assert entry == {
            "at": {"place": place}, "qty": quantity, "by": "SYSTEM_MIGRATION", "unit": "pcs",
            "price": Decimal("1.5"), "open": True, "note": None,
        }  # fmt: skip
    # What is no number any more makes a difference, and nothing raise.
    database.psql(
        "UPDATE stock_items SET allocations = jsonb_set(allocations, '{0,qty}', '\"#REF!\"') "
        "WHERE id = 1"
    )
    assert differing(database, chosen) == [("target_differs", ["1"])]
    undo(database, chosen)
    kept = database.psql("SELECT key_text FROM inventory_migration.conflict")
    assert kept == "1"
    database.psql("UPDATE stock_items SET allocations = NULL WHERE id = 1")
    assert stage.table(database, "stock_items") == before


@pytest.mark.slow
def test_a_list_goes_there_and_back_through_all_gates_whatever_its_fields_are_called(
    database: Database,
) -> None:
    shop(database, items=6, companies=2)
    names = [f"{spell} {number}" for number, spell in enumerate(hostile.SPELLS)]
    chosen = mapping(
        {
            "as": "list",
            "entry": {
                names[0]: {names[1]: ON_HAND, names[2]: PLACE},
                names[3]: {"from": "reserved", "as": "text"},
                **{name: "".join(hostile.SPELLS) for name in names[4:]},
            },
        }
    )
    before = stage.table(database, "stock_items")
    target = verbs.open_target(database.url)
    assert verbs.test(target, chosen)["records"]["migrated"] == 6
    done = verbs.run(target, chosen)
    assert (done["state"], done["units"]["after"], done["reserved"]["after"]) == (
        "verified",
        "21",
        "3",
    )
    ((entry,), *_, (last,)) = (json.loads(row) for row in said(database))
    assert entry[names[0]] == {names[1]: 1, names[2]: 10}
    assert last[names[0]] == {names[1]: 6, names[2]: 20}
    assert last[names[3]] == "1"
    assert {entry[name] for name in names[4:]} == {"".join(hostile.SPELLS)}
    assert verbs.validate(target, chosen)["passed"]
    assert verbs.run(target, chosen)["changed"] is False
    assert verbs.roll_back(target, chosen)["undone"]["records"] == 6
    assert stage.table(database, "stock_items") == before


@pytest.mark.parametrize("form", [LIST, OBJECT])
def test_whatever_a_locations_key_is_an_entry_says_just_that(
    database: Database, form: dict[str, Any]
) -> None:
    shop(database, items=1, kind="text")
    key = "".join(hostile.SPELLS)
    database.psql(f"UPDATE locations SET id = {hostile.text(key)} WHERE id = '10'")
    found = stage.migrate(database, mapping(form))
    assert found.proof.differences == []
    (entry,) = map(json.loads, said(database))
    if form is LIST:
        assert entry == [{"qty": 1, "held": 0, "loc": key, "unit": "pcs"}]
    else:
        assert entry == {key: {"qty": 1, "held": 0}}


NESTED = {
    "as": "list",
    "entry": {
        "longest name": {"place": PLACE, "\u00e9": {"from": "written_at"}, "{}": MARKER},
        "zz": ON_HAND, "aa": {"from": "available", "as": "text"}, "ab": None, "x\"\\\n": "it's\t",
        "empty": {}, "price": 1.50, "open": True,
    },
}  # fmt: skip
SPELLED = {
    "location": "'a\"\\\u00e9'::text",
    "quantity": "12.50::numeric",
    "reserved": "3::numeric",
    "at": "'2026-01-02T03:04:05.678Z'",
}


@pytest.mark.parametrize("form", [LIST, OBJECT, NESTED], ids=["list", "object", "nested"])
def test_an_entry_is_told_by_the_text_that_the_server_makes_of_it_and_by_what_it_says(
    database: Database, form: dict[str, Any]
) -> None:
    shop(database, items=1, kind="text")
    chosen = mapping({**form, "transfers": "transfers"})
    database.psql("ALTER TABLE stock_items ADD transfers jsonb")
    with database.engine.connect() as connection:
        shape = shape_of(plan.resolve(connection, chosen))
        entry, none = shape.values(**SPELLED)
        text = entry.removesuffix("::jsonb")
        assert text != entry
        spelled = f"SELECT {text} = ({entry})::text"
        assert connection.execute(sa.text(escaped(spelled))).scalar_one() is True
        held = [
            (f"{entry}, {none}", True),
            (f"replace({text}, '12.50', '12.5')::jsonb, {none}", True),
            (f"replace({text}, '12.50', '12.51')::jsonb, {none}", False),
            (f"{entry}, '[1]'::jsonb", False),
            (f"{entry}, NULL::jsonb", False),
            (f"NULL::jsonb, {none}", False),
            (f"'{{}}'::jsonb, {none}", False),
        ]
        for columns, holds in held:
            asked = f"""
                SELECT {shape.holds("r", **SPELLED)}
                FROM (SELECT {columns}) AS r(target_1, target_2)"""
            assert connection.execute(sa.text(escaped(asked))).scalar_one() is holds, columns


FOUND: dict[str, list[tuple[str, str]]] = {
    "object": [
        ("NULL", "migrated"), ("{}", "migrated"), ("[]", "migrated"), ("null", "migrated"),
        ('{"10": {"qty": 1}}', "already"), ('{"11": 5}', "already"), ('{"10": null}', "already"),
        ('{"10": {}, "11": [1]}', "already"), ('{"10": {}, "20": {}}', "foreign"),
        ('{"11": {}, "x": {}}', "foreign"), ('{"20": {}}', "foreign"), ('["10"]', "foreign"),
        ("10", "foreign"), ("true", "foreign"), ('"10"', "foreign"), ('{"": {}}', "foreign"),
    ],
    "list": [
        ("NULL", "migrated"), ("{}", "migrated"), ("[]", "migrated"), ("null", "migrated"),
        ('[{"loc": 10, "qty": 1}]', "already"), ('[{"loc": "11"}]', "already"),
        ('[{"loc": 10}, {"loc": 11}, {"loc": 10}]', "already"),
        ('[{"loc": 10}, {"loc": 20}]', "foreign"), ('[{"loc": 20}, {"loc": 10}]', "foreign"),
        ('[{"loc": 10}, {}]', "foreign"), ('[{"loc": 10}, 10]', "foreign"),
        ('[{"loc": 10}, null]', "foreign"), ('[{"loc": {"loc": 10}}]', "foreign"),
        ('[[{"loc": 10}]]', "foreign"), ("[10]", "foreign"), ('{"loc": 10}', "foreign"),
        ("10", "foreign"), ('"10"', "foreign"), ('[{"loc": null}]', "foreign"),
        ('[{"loc": 10.0}]', "foreign"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", FOUND)
def test_what_holds_an_entry_is_left_as_it_is_and_judged_by_all_of_them(
    database: Database, form: str
) -> None:
    shop(database, items=2 * len(FOUND[form]), companies=2)
    database.psql("DELETE FROM stock_items WHERE company_id = 2 AND id > 2")
    database.psql("UPDATE stock_items SET allocations = '[3]' WHERE id = 2")
    for number, (held, _) in enumerate(FOUND[form]):
        value = "NULL" if held == "NULL" else f"'{held}'"
        database.psql(f"UPDATE stock_items SET allocations = {value} WHERE id = {2 * number + 1}")
    before = said(database)
    chosen = mapping(LIST if form == "list" else OBJECT)
    with database.engine.connect() as connection:
        predicted = prediction.predict(connection, plan.resolve(connection, chosen))["records"]
    stage.migrate(database, chosen)
    became = database.psql(
        "SELECT COALESCE(CASE o.rule WHEN 'location_foreign' THEN 'foreign' ELSE o.outcome END, "
        "'migrated') FROM inventory_migration.snapshot_1 p "
        "LEFT JOIN inventory_migration.outcome o USING (position) WHERE key_1 <> 2 ORDER BY key_1"
    ).splitlines()
    assert list(zip([held for held, _ in FOUND[form]], became, strict=True)) == FOUND[form]
    known = database.psql(
        "SELECT (row_version IS NOT NULL)::text FROM inventory_migration.snapshot_1 "
        "WHERE key_1 <> 2 ORDER BY key_1"
    ).splitlines()
    assert known == [str(outcome == "migrated").lower() for outcome in became]
    counted = stage.outcomes(database)
    assert {name: predicted[name] for name in counted} == counted
    after = said(database)
    kept = [n for n, row in enumerate(before) if row not in {"-", "{}", "[]", "null"}]
    assert [after[n] for n in kept] == [before[n] for n in kept]
    assert {kind for kind, _ in differing(database, chosen)} == {"target_of_others_differs"}
    undo(database, chosen)
    assert said(database) == before


CHANGES = {
    "edited": "jsonb_set(allocations, '{0,qty}', '1000')",
    "extended": "allocations || '[{\"loc\": 11}]'",
    "replaced": '\'[{"loc": 11, "qty": 3, "held": 0, "unit": "pcs"}]\'',
    "emptied": "'[]'",
    "no list any more": "'{\"loc\": 10}'",
    "no entry any more": "'[7]'",
}


def test_only_an_entry_that_is_ours_and_unchanged_goes_back(database: Database) -> None:
    """Without a marker or a time it is the chunk's transaction, or the value, that says so."""
    shop(database, items=len(CHANGES) + 2)
    chosen = mapping(LIST)
    stage.migrate(database, chosen)
    written = said(database)
    assert json.loads(written[4]) == [{"loc": 10, "qty": 5, "held": 1, "unit": "pcs"}]
    for number, change in enumerate(CHANGES.values(), start=1):
        database.psql(f"UPDATE stock_items SET allocations = {change} WHERE id = {number}")
    # Touched, but not there.
    database.psql(f"UPDATE stock_items SET deleted_at = now() WHERE id = {len(CHANGES) + 1}")
    changed = said(database)
    assert differing(database, chosen) == [
        ("location_foreign", ["5", "6"]),
        ("location_lost", ["4"]),
        ("target_differs", ["1", "2"]),
        ("touched_since", ["3", "7"]),
    ]
    undo(database, chosen)
    assert said(database) == [*changed[: len(CHANGES)], "-", "-"]
    with database.engine.connect() as connection:
        migration = ledger.find(connection, migration_id=1)
        assert migration is not None
        conflicts = trail.undone(connection, [migration], WHOLE)["conflicts"]
    assert [(c["kind"], c["written"], c["found"]) for c in conflicts] == [
        ("moved_since", written[n], changed[n]) for n in range(len(CHANGES))
    ]


@pytest.mark.parametrize("marked", [True, False])
def test_the_guard_gives_new_records_the_very_entry_that_a_chunk_writes(
    database: Database, marked: bool
) -> None:
    shop(database, items=1)
    target = {**LIST, "entry": {**LIST["entry"], **({"by": MARKER} if marked else {})}}
    chosen = mapping(target, guard=True, quantity_basis="net")
    stage.migrate(database, chosen)
    new = "INSERT INTO stock_items (company_id, sku, quantity, reserved, allocations) VALUES"
    database.psql(
        f"{new} (1, 'NEW', 1, 0, NULL), (1, 'THEIRS', 1, 0, '[{{\"loc\": 10, \"qty\": 1}}]'),"
        "(1, 'BROKEN', 1, 0, '3')"
    )
    first, second, *theirs = said(database)
    assert first == second != theirs[0]
    assert theirs[1] == "3"
    undo(database, chosen)
    listed = database.psql("SELECT key_text FROM inventory_migration.conflict ORDER BY 1")
    # Nobody can tell whose an entry is without a mark: all are listed, and all of them stay.
    assert listed == ("2" if marked else "2\n3")
    assert said(database) == ["-", second, *theirs]


def test_a_sale_after_its_chunk_is_written_anew(database: Database) -> None:
    """What a template says of its numbers alone is read back: here of what is promised."""
    shop(database, items=8)
    chosen = mapping({"entry": {"free": {"from": "quantity", "as": "text"}}}, quantity_basis="net")
    stage.locations(database, chosen)
    stage.transform(database, chosen)
    assert said(database)[7] == '{"10": {"free": "8"}}'
    database.psql("UPDATE stock_items SET quantity = 3, reserved = 7 WHERE id = 8")
    assert stage.close(database, chosen).proof.differences == []
    assert said(database)[7] == '{"10": {"free": "3"}}'
    database.psql('UPDATE stock_items SET allocations = \'{"10": {"free": "4"}}\' WHERE id = 8')
    assert differing(database, chosen) == [("target_differs", ["8"])]
    undo(database, chosen)
    assert said(database) == [*["-"] * 7, '{"10": {"free": "4"}}']


def test_what_was_reserved_beside_the_record_after_the_plan_goes_back_too(
    database: Database,
) -> None:
    """The record's own row says nothing of it, so what was written is kept."""
    shop(database, items=2)
    database.psql("CREATE TABLE lines (item bigint, units integer)")
    orders = "COALESCE((SELECT sum(l.units) FROM lines l WHERE l.item = s.id), 0)"
    source = {**stage.DEFINITION["source"], "reserved": {"sql": orders}}
    chosen = mapping(LIST, source=source)
    migration = stage.locations(database, chosen)
    assert migration is not None
    write_snapshot(database.engine, plan.read_mapping(database.engine, chosen), migration)
    database.psql("INSERT INTO lines VALUES (2, 1)")
    stage.transform(database, chosen)
    assert json.loads(said(database)[1])[0]["held"] == 1
    assert differing(database, chosen) == []
    # Nobody writes to the row, whose allocation holds what it was made of and no more.
    database.psql("INSERT INTO lines VALUES (2, 1)")
    assert differing(database, chosen) == [("target_outdated", ["2"])]
    undo(database, chosen)
    assert said(database) == ["-", "-"]


def test_entries_are_judged_by_links_too_where_these_say_whose_a_location_is(
    database: Database,
) -> None:
    """Location 11 is both companies', and 20 the second's alone."""
    shop(database, items=4, companies=2)
    database.psql(
        "CREATE TABLE owners (place bigint, owner bigint, gone boolean);"
        "CREATE INDEX ON owners (place);"
        "INSERT INTO owners VALUES (10, 1, false), (11, 1, false), (11, 2, false), (20, 2, false),"
        " (20, 1, true);"
        'UPDATE stock_items SET allocations = \'[{"loc": 10}, {"loc": 11}]\' WHERE id = 1;'
        'UPDATE stock_items SET allocations = \'[{"loc": 11}, {"loc": 20}]\' WHERE id IN (2, 3)'
    )
    links = {
        "table": "owners", "location": "place", "company": "owner",
        "where": {"sql": "NOT o.gone -- those that count"},
    }  # fmt: skip
    chosen = mapping(LIST, locations={**PLACES, "company": {"through": links}})
    stage.migrate(database, chosen)
    assert database.psql(
        "SELECT key_text, outcome, rule FROM inventory_migration.outcome ORDER BY 1"
    ).splitlines() == ["1|already|", "2|already|", "3|quarantined|location_foreign"]
    assert json.loads(said(database)[3])[0]["loc"] == 20
