"""A mapping file becomes the model, or one sentence for each mistake with its file and line."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inventory_migration.catalog import literal
from inventory_migration.errors import MappingInvalid, MappingNotFound
from inventory_migration.mapping import (
    Expression,
    StockMapping,
    load_mapping,
    named_mapping,
    parse_mapping,
)
from inventory_migration.project import listing
from inventory_migration_tests.stage import DEFINITION, mapping

pytestmark = pytest.mark.one_server

MINIMAL = textwrap.dedent("""\
    name: shop
    company: {table: companies, key: id, name: name}
    locations:
      table: locations
      key: id
      company: company_id
      default: {is_default: true}
    source:
      table: stock_items
      key: [id]
      company: company_id
      item: sku
      quantity: quantity
    target: {shape: location_column, column: location_id}
    """)


def problems(text: str) -> list[str]:
    """What is said about a file `shop.yaml` with this text."""
    with pytest.raises(MappingInvalid) as caught:
        parse_mapping(text, "shop.yaml")
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert caught.value.exit_code == 2
    return caught.value.problems


def refusal(**changes: Any) -> str:
    """What the model says about the shop's mapping with some parts replaced."""
    with pytest.raises(ValidationError) as caught:
        mapping(**changes)
    return str(caught.value)


def changed(part: str, **changes: Any) -> dict[str, Any]:
    """A part of the shop's mapping with some of its keys replaced."""
    return {part: {**DEFINITION[part], **changes}}


def test_the_shipped_mapping_says_what_the_design_says() -> None:
    found = named_mapping("stock_items")
    assert found.name == "stock_items"
    assert (str(found.company.table), found.company.key, found.company.name) == (
        "companies",
        "id",
        "name",
    )
    assert str(found.locations.table) == "locations"
    assert found.locations.default == {"is_default": True}
    assert found.locations.create == {"name": "Main warehouse", "code": "MAIN", "kind": "warehouse"}
    assert str(found.source.table) == "stock_items"
    assert found.source.key == ["id"]
    assert (found.source.item, found.source.quantity) == ("sku", "quantity")
    assert found.source.reserved == "reserved_quantity"
    assert found.source.skip == {"deleted": Expression(sql="s.deleted_at IS NOT NULL")}
    assert (found.target.shape, found.target.column, found.target.add) == (
        "location_column",
        "location_id",
        True,
    )
    assert found.quantity_basis == "gross"
    assert found.rules.actions() == {
        "company_ambiguous": "quarantine",
        "company_missing": "quarantine",
        "location_foreign": "quarantine",
        "target_key_missing": "quarantine",
        "target_key_shared": "quarantine",
        "target_exists": "quarantine",
        "quantity_missing": "quarantine",
        "quantity_not_a_number": "quarantine",
        "quantity_inexact": "quarantine",
        "value_unconvertible": "quarantine",
        "negative_quantity": "warn",
        "reserved_exceeds_quantity": "warn",
        "item_duplicate": "warn",
        "default_location_ambiguous": "fail",
    }
    assert [(p.name, p.companies, p.percent) for p in found.phases] == [
        ("pilot", 1, None),
        ("early", None, 10.0),
        ("rest", None, None),
    ]
    assert (found.chunk.rows, found.chunk.target_ms) == (1000, 500)
    limits = found.thresholds
    assert (limits.quarantined_percent, limits.after_records, limits.action) == (
        1.0,
        1000,
        "rollback",
    )
    assert found.guard is False
    assert found.touch == {}


def test_what_a_file_leaves_out_has_the_defaults_that_the_shipped_mapping_spells_out() -> None:
    found, shipped = parse_mapping(MINIMAL, "shop.yaml"), named_mapping("stock_items")
    assert found.rules == shipped.rules
    assert found.chunk == shipped.chunk
    assert found.thresholds == shipped.thresholds
    assert found.quantity_basis == shipped.quantity_basis
    assert [phase.name for phase in found.phases] == ["rest"]
    assert found.locations.create is None
    assert not found.locations.add
    assert not found.target.add


@pytest.mark.parametrize("name", sorted(listing("mappings", ".yaml")))
def test_every_mapping_that_ships_is_valid_and_bears_the_name_of_its_file(name: str) -> None:
    assert named_mapping(name).name == name


def test_an_unknown_key_is_named_with_its_line() -> None:
    assert problems(MINIMAL.replace("  item: sku", "  item: sku\n  itme: sku")) == [
        "shop.yaml, line 13: source.itme: unknown key"
    ]


def test_an_unknown_key_of_a_flow_mapping_is_named_with_its_line() -> None:
    text = MINIMAL.replace("name: name}", "name: name, city: town}")
    assert problems(text) == ["shop.yaml, line 2: company.city: unknown key"]


def test_a_missing_key_is_named_with_the_line_of_its_part() -> None:
    assert problems(MINIMAL.replace("  quantity: quantity\n", "")) == [
        "shop.yaml, line 8: source.quantity: missing"
    ]


def test_a_missing_part_is_named() -> None:
    assert problems("# a comment\n" + MINIMAL.partition("target:")[0]) == [
        "shop.yaml, line 2: target: missing"
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("key: id, name: name", "key: 5, name: name", 2, "company.key"),
        ("{table: companies, key: id, name: name}", "companies", 2, "company"),
        ("  key: [id]", "  key: {a: b}", 10, "source.key"),
        ("  key: [id]", "  key: []", 10, "source.key"),
        ("  table: stock_items", "  table: ''", 9, "source.table"),
        ("{is_default: true}", "{}", 7, "locations.default"),
        ("{is_default: true}", "{is_default: [1]}", 7, "locations.default.is_default"),
        ("  item: sku", "  item: {sql: ''}", 12, "source.item"),
        ("  item: sku", "  item: {sql: s.sku, x: y}", 12, "source.item"),
        ("shape: location_column", "shape: stock_column", 14, "target.shape"),
        ("name: shop", "name: My Shop", 1, "name"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_line(
    old: str, new: str, line: int, key: str
) -> None:
    found = problems(MINIMAL.replace(old, new))
    assert found
    assert all(problem.startswith(f"shop.yaml, line {line}: {key}") for problem in found)


def test_messages_speak_of_keys_and_never_of_the_classes_behind_them() -> None:
    text = (
        MINIMAL.replace("quantity: quantity", "quantity: 5")
        .replace("id}", "id, add: maybe}")
        .replace("is_default: true", "is_default: [1]")
        .replace("table: locations", "table: 7")
        .replace("{table: companies, key: id, name: name}", "companies")
        + "phases: [{name: pilot, companies: 1.5}, {name: rest}]\n"
    )
    assert problems(text) == [
        "shop.yaml, line 2: company: should be a set of keys",
        "shop.yaml, line 4: locations.table: should be a name, or {schema: ..., name: ...}",
        "shop.yaml, line 7: locations.default.is_default: should be a valid boolean "
        "or a whole number or a valid number or text",
        "shop.yaml, line 13: source.quantity: should be a column, {sql: ...} or "
        "{column: ..., as: [...]}",
        "shop.yaml, line 14: target.add: should be a valid boolean, unable to interpret input",
        "shop.yaml, line 15: phases.0.companies: should be a whole number or a valid list",
    ]


def test_a_key_given_twice_is_refused_instead_of_silently_won_by_the_last() -> None:
    assert problems(MINIMAL + "name: other\n") == ["shop.yaml, line 15: name is given twice"]


def test_every_key_given_twice_is_listed() -> None:
    text = MINIMAL.replace("  item: sku", "  item: sku\n  item: name") + "name: other\n"
    assert problems(text) == [
        "shop.yaml, line 13: item is given twice",
        "shop.yaml, line 16: name is given twice",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: shop\ncompany: {table: companies\nsource: x\n", 3),
        ("name: shop\n\tcompany: x\n", 2),
        ("name: 'shop\n", 2),
        (MINIMAL + "---\nname: second\n", 15),
        ("name: *unknown\n", 1),
        ("name: !!python/object:os.system {}\n", 1),
        (MINIMAL + "{a: b}: c\n", 15),
    ],
)
def test_malformed_yaml_is_one_sentence_with_file_and_line(text: str, line: int) -> None:
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(f"shop.yaml, line {line}: no YAML: ")
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    "value",
    ["2024-13-45", "!!int abc", "!!float abc", "1" * 5000, "!!timestamp abc", "!!binary _"],
)
def test_a_value_that_yaml_itself_cannot_read_is_one_sentence(value: str) -> None:
    found = problems(MINIMAL.replace("true", value))
    assert len(found) == 1
    assert found[0].startswith("shop.yaml")
    assert "\n" not in found[0]


@pytest.mark.parametrize(
    "text",
    ["a: &a {b: *a}\n", "&a [*a]\n", "[" * 5000, "a: \x00b\n", "a: \x07b\n"],
)
def test_a_hostile_document_is_refused_in_a_sentence(text: str) -> None:
    found = problems(text)
    assert found
    assert all(problem.startswith("shop.yaml") for problem in found)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "stock_items\n", "5\n"])
def test_a_document_that_is_no_set_of_keys_is_refused(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("shop.yaml: a mapping is a set of keys (name, company, …), and ")


def test_all_problems_are_reported_at_once() -> None:
    text = (
        MINIMAL.replace("  item: sku\n", "")
        .replace("key: id, name: name", "key: id, nmae: name")
        .replace("key: [id]", "key: 5")
        + "rules: {negative_quantity: explode}\nphases: [{name: rest}, {name: rest}]\n"
    )
    found = problems(text)
    assert [problem.partition(":")[0] for problem in found] == [
        "shop.yaml, line 2",
        "shop.yaml, line 2",
        "shop.yaml, line 10",
        "shop.yaml, line 8",
        "shop.yaml, line 14",
        "shop.yaml, line 15",
    ]


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MappingNotFound, match=r"no such file"):
        load_mapping(tmp_path / "absent.yaml")
    with pytest.raises(MappingNotFound, match=r"is a directory"):
        load_mapping(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(MappingInvalid, match=r"latin\.yaml: not UTF-8 text"):
        load_mapping(tmp_path / "latin.yaml")


def test_a_name_that_is_unknown_lists_those_that_are_known() -> None:
    with pytest.raises(MappingNotFound, match=r"known mappings: .*stock_items") as caught:
        named_mapping("stok_items")
    assert "stock_items" in caught.value.known


def test_a_users_own_folder_adds_mappings_and_hides_those_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text(MINIMAL)
    (tmp_path / "stock_items.yaml").write_text(MINIMAL.replace("name: shop", "name: stock_items"))
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    monkeypatch.setenv("INVENTORY_MAPPINGS", str(tmp_path))
    assert named_mapping("shop").name == "shop"
    assert named_mapping("stock_items").locations.create is None
    with pytest.raises(MappingInvalid, match="not UTF-8"):
        named_mapping("latin")


def test_layout_comments_and_spelled_out_defaults_do_not_change_the_hash() -> None:
    found = parse_mapping(MINIMAL, "shop.yaml")
    reordered = yaml.safe_dump(yaml.safe_load(MINIMAL), default_flow_style=True, sort_keys=True)
    assert parse_mapping("# again\n" + reordered, "else.yaml").hash == found.hash
    spelled = MINIMAL + "quantity_basis: gross\nchunk: {rows: 1000}\ntouch: {}\n"
    assert parse_mapping(spelled, "shop.yaml").hash == found.hash
    assert parse_mapping(MINIMAL.replace("[id]", "id"), "shop.yaml").hash == found.hash
    two, swapped = ({"is_default": True, "rank": 1}, {"rank": 1, "is_default": True})
    assert (
        mapping(**changed("locations", default=two)).hash
        == mapping(**changed("locations", default=swapped)).hash
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key: [id]", "key: [id, lot]"),
        ("key: [id]", "key: [lot, id]"),
        ("table: stock_items", "table: shop.stock_items"),
        ("item: sku", "item: {sql: sku}"),
        ("is_default: true", "is_default: 1"),
        ("is_default: true", "is_default: 'true'"),
        ("is_default: true", "is_default: null"),
        ("name: shop", "name: shop2"),
        ("column: location_id}", "column: location_id, add: true}"),
        ("quantity: quantity", "quantity: quantity\n  reserved: reserved"),
        ("quantity: quantity\n", "quantity: quantity\nquantity_basis: net\n"),
        ("quantity: quantity\n", "quantity: quantity\nrules: {item_duplicate: fail}\n"),
    ],
)
def test_other_content_has_another_hash(old: str, new: str) -> None:
    other = parse_mapping(MINIMAL.replace(old, new), "shop.yaml")
    assert other.hash != parse_mapping(MINIMAL, "shop.yaml").hash


def test_a_constant_keeps_the_type_that_the_file_gives_it() -> None:
    text = MINIMAL.replace(
        "{is_default: true}", "{a: true, b: 1, c: 1.0, d: 0.5, e: '1', f: null, g: 0, h: x}"
    )
    default = parse_mapping(text, "shop.yaml").locations.default
    assert {name: type(value) for name, value in default.items()} == {
        "a": bool,
        "b": int,
        "c": Decimal,
        "d": Decimal,
        "e": str,
        "f": type(None),
        "g": int,
        "h": str,
    }
    assert [literal(value) for value in default.values()] == [
        "TRUE", "1", "1.0", "0.5", "E'1'", "NULL", "0", "E'x'",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_a_constant_that_is_no_number_is_refused(value: str) -> None:
    assert problems(MINIMAL.replace("true", value))[0].startswith("shop.yaml, line 7")


def test_phases_are_taken_as_given() -> None:
    phases = [
        {"name": "pilot", "companies": ["acme", 7]},
        {"name": "early", "percent": 12.5},
        {"name": "more", "companies": 3},
        {"name": "rest"},
    ]
    assert [p.model_dump(exclude_none=True) for p in mapping(phases=phases).phases] == phases


@pytest.mark.parametrize(
    ("phases", "why"),
    [
        ([], "at least 1"),
        ([{"name": "pilot", "companies": 1}], "the last phase takes all companies"),
        ([{"name": "early", "percent": 5}], "the last phase takes all companies"),
        ([{"name": "a"}, {"name": "b"}], "every phase but the last needs"),
        ([{"name": "a", "companies": 1}, {"name": "a"}], "two phases have the same name"),
        ([{"name": "a", "companies": 1, "percent": 5}, {"name": "b"}], "not both"),
        ([{"name": "a", "companies": 0}, {"name": "b"}], "greater than or equal to 1"),
        ([{"name": "a", "companies": []}, {"name": "b"}], "at least 1"),
        ([{"name": "a", "percent": 0}, {"name": "b"}], "greater than 0"),
        ([{"name": "a", "percent": 101}, {"name": "b"}], "less than or equal to 100"),
        ([{"name": "a", "companies": True}, {"name": "b"}], "valid integer"),
        ([{"name": "sweep"}], "late arrivals"),
        ([{"name": "Final Phase"}], "should match pattern"),
        (
            [
                {"name": "a", "companies": [1, 2]},
                {"name": "b", "companies": [2, "1"]},
                {"name": "c"},
            ],
            "two phases name company",
        ),
    ],
)
def test_phases_that_make_no_sense_are_refused(phases: list[dict[str, Any]], why: str) -> None:
    assert why in refusal(phases=phases)


@pytest.mark.parametrize(
    "rule",
    [
        "company_missing",
        "location_foreign",
        "target_key_missing",
        "target_key_shared",
        "quantity_missing",
        "quantity_not_a_number",
        "value_unconvertible",
        "default_location_ambiguous",
    ],
)
def test_a_record_that_has_nowhere_to_go_cannot_be_merely_warned_about(rule: str) -> None:
    assert f"{rule} cannot be 'warn'" in refusal(rules={rule: "warn"})
    assert mapping(rules={rule: "fail"}).rules.actions()[rule] == "fail"


def test_every_rule_that_cannot_be_a_warning_is_listed() -> None:
    said = refusal(rules={"company_missing": "warn", "quantity_missing": "warn"})
    assert "company_missing" in said
    assert "quantity_missing" in said


@pytest.mark.parametrize("rule", ["negative_quantity", "reserved_exceeds_quantity"])
@pytest.mark.parametrize("action", ["warn", "quarantine", "fail"])
def test_a_record_that_can_be_moved_as_it_is_may_have_any_action(rule: str, action: str) -> None:
    assert mapping(rules={rule: action}).rules.actions()[rule] == action


def test_a_rule_or_an_action_that_is_unknown_is_refused() -> None:
    assert "quantity_odd" in refusal(rules={"quantity_odd": "warn"})
    assert "'quarantine', 'warn' or 'fail'" in refusal(rules={"item_duplicate": "ignore"})


@pytest.mark.parametrize("column", ["location_id", "id", "quantity", "reserved", "company_id"])
def test_touch_may_set_neither_the_target_nor_what_stock_rests_on(column: str) -> None:
    assert f"touch cannot set {column}" in refusal(touch={column: None})


def test_touch_may_set_other_columns_to_constants_and_expressions() -> None:
    found = mapping(touch={"updated_at": {"sql": "now()"}, "updated_by": "tool"})
    assert found.touch == {"updated_at": Expression(sql="now()"), "updated_by": "tool"}


@pytest.mark.parametrize("column", ["id", "quantity", "reserved", "company_id", "sku"])
def test_the_target_is_no_column_that_the_record_is_read_from(column: str) -> None:
    target = {"shape": "location_column", "column": column}
    assert f"the target column cannot be {column}" in refusal(target=target)


def test_the_guard_is_off_unless_asked_for_and_levels_have_a_trigger_of_their_own() -> None:
    assert mapping().guard is False
    assert mapping(guard=True).guard is True
    levels = {
        "shape": "stock_level",
        "table": "levels",
        "record": {"item_id": "id"},
        "location": "location_id",
        "on_hand": "on_hand",
    }
    assert "say sync: true in target" in refusal(target=levels, guard=True)
    assert mapping(target=levels).guard is False


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"chunk": {"rows": 0}}, "greater than or equal to 1"),
        ({"chunk": {"rows": 10**6}}, "less than or equal to 100000"),
        ({"chunk": {"target_ms": 0}}, "greater than or equal to 10"),
        ({"thresholds": {"quarantined_percent": 101}}, "less than or equal to 100"),
        ({"thresholds": {"quarantined_percent": float("nan")}}, "less than or equal|finite|nan"),
        ({"thresholds": {"action": "explode"}}, "'rollback', 'pause' or 'continue'"),
        ({"thresholds": {"failed_attempts": 0}}, "greater than or equal to 1"),
        ({"gates": {"max_age_minutes": 0}}, "greater than or equal to 1"),
        ({"quantity_basis": "some"}, "'gross' or 'net'"),
        ({"name": "x" * 41}, "should match pattern"),
        ({"name": "drop table"}, "should match pattern"),
    ],
)
def test_numbers_and_choices_stay_in_their_range(changes: dict[str, Any], why: str) -> None:
    said = refusal(**changes)
    assert any(part in said for part in why.split("|"))


def test_a_table_may_name_its_schema_and_one_whose_name_has_a_dot_says_so() -> None:
    def table(value: object) -> tuple[str | None, str]:
        found = mapping(**changed("source", table=value)).source.table
        return found.schema_, found.name

    assert table("stock_items") == (None, "stock_items")
    assert table("shop.stock_items") == ("shop", "stock_items")
    assert table({"name": "stock.items"}) == (None, "stock.items")
    assert table({"schema": "my.shop", "name": "stock.items"}) == ("my.shop", "stock.items")
    assert "table" in refusal(**changed("source", table="shop."))


@given(st.text())
def test_hostile_strings_stay_data(text: str) -> None:
    found = mapping(**changed("locations", create={"name": text}))
    assert found.locations.create == {"name": text}
    spelled = literal(text)
    assert spelled.startswith("E'")
    assert spelled.endswith("'")
    # Nothing inside ends the literal: quotes come in pairs, and so do backslashes.
    inner = spelled[2:-1].replace("\\\\", "").replace("''", "")
    assert "'" not in inner
    assert "\\" not in inner


@given(st.text())
def test_any_text_at_all_becomes_a_mapping_or_sentences(text: str) -> None:
    try:
        found: list[str] | StockMapping = parse_mapping(text, "shop.yaml")
    except MappingInvalid as refused:
        found = refused.problems
    sentences = found if isinstance(found, list) else [found.name]
    assert sentences
    assert isinstance(found, StockMapping) or all(s.startswith("shop.yaml") for s in sentences)


def test_a_mapping_is_found_by_the_name_that_its_file_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.yaml").write_text(MINIMAL)
    monkeypatch.setenv("INVENTORY_MAPPINGS", str(tmp_path))
    with pytest.raises(MappingInvalid, match="says name: shop"):
        named_mapping("other")


def test_when_and_how_fast_is_no_part_of_the_hash() -> None:
    text = MINIMAL + 'health: {max_rows_per_second: 5, window: {from: "22:00", to: "5:00"}}\n'
    assert parse_mapping(text, "shop.yaml").hash == parse_mapping(MINIMAL, "shop.yaml").hash


def test_a_time_of_day_needs_no_quotes() -> None:
    windows = "[{from: 22:00, to: 05:00}, {days: [sat], from: 0:00, to: 23:59}]"
    found = parse_mapping(f"{MINIMAL}health: {{window: {windows}}}\n", "shop.yaml")
    assert [str(window) for window in found.health.window] == [
        "every day from 22:00 to 05:00 UTC",
        "sat from 00:00 to 23:59 UTC",
    ]


NO_TIME = 'should be a time of day between quotes, such as "22:00"'
NO_ZONE = "there is no time zone {}; take one such as Europe/Berlin or UTC"


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        ("from: 22, to: 5:00", f"from: {NO_TIME}"),
        ('from: "24:00", to: "5:00"', f"from: {NO_TIME}"),
        ("from: 1:00", "to: missing"),
        ("from: 1:00, to: 2:00, time_zone: Atlantis", "time_zone: " + NO_ZONE.format("Atlantis")),
        ("from: 1:00, to: 2:00, time_zone: ../UTC", "time_zone: " + NO_ZONE.format("../UTC")),
        ("from: 1:00, to: 2:00, days: []", "days: is empty"),
        ("from: 1:00, to: 2:00, days: [monday]", "days.0: should be 'mon', 'tue'"),
    ],
)
def test_a_window_that_makes_no_sense_is_told(window: str, problem: str) -> None:
    with pytest.raises(MappingInvalid) as refused:
        parse_mapping(f"{MINIMAL}health: {{window: [{{{window}}}]}}\n", "shop.yaml")
    assert f"health.window.0.{problem}" in str(refused.value)


def test_the_order_of_skip_reasons_is_part_of_the_hash() -> None:
    one, other = '{a: {sql: "true"}, b: {sql: "true"}}', '{b: {sql: "true"}, a: {sql: "true"}}'
    hashes = {
        parse_mapping(MINIMAL.replace("  item: sku", f"  item: sku\n  skip: {skip}"), "x").hash
        for skip in (one, other)
    }
    assert len(hashes) == 2
