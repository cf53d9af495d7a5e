"""A mapping's own rules: asked of each record beside the built-in ones, in a stated order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.defs.checks import expectations
from inventory_migration.errors import GateRefused, MappingInvalid
from inventory_migration.mapping import StockMapping, parse_mapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.test_mapping import MINIMAL, problems

pytestmark = pytest.mark.one_server

MISSING = {"when": {"sql": "s.sku IS NULL OR s.sku = ''"}, "do": "quarantine"}
HUGE = {"when": {"sql": "s.quantity > 25"}, "do": "warn"}


def mapping(**rules: Any) -> StockMapping:
    return stage.mapping(rules=rules, thresholds={"quarantined_percent": 100})


@pytest.fixture
def shop(database: Database) -> Database:
    stage.shop(database)
    database.psql("UPDATE stock_items SET sku = NULL WHERE id IN (3, 4); "
                  "UPDATE stock_items SET sku = '', deleted_at = now() WHERE id = 5")  # fmt: skip
    return database


def test_what_breaks_an_own_rule_is_put_aside_with_its_name_and_condition(shop: Database) -> None:
    target, asked = verbs.open_target(shop.url), mapping(sku_missing=MISSING)
    assert verbs.test(target, asked)["quarantined"] == {"sku_missing": 2}
    found = verbs.run(target, asked)
    assert found["quarantined"] == {"sku_missing": 2}
    assert found["records"]["skipped"] == 1
    assert shop.psql(
        "SELECT key_text, rule, reason FROM inventory_migration.outcome "
        "WHERE outcome = 'quarantined' ORDER BY 1"
    ) == "\n".join(f"{n}|sku_missing|s.sku IS NULL OR s.sku = ''" for n in (3, 4))
    assert shop.psql("SELECT id FROM stock_items WHERE location_id IS NULL ORDER BY 1") == "3\n4\n5"


@pytest.mark.slow
def test_what_breaks_a_warning_is_counted_and_moves(shop: Database) -> None:
    target, asked = verbs.open_target(shop.url), mapping(huge=HUGE)
    assert verbs.test(target, asked)["warnings"] == {"huge": 5}
    found = verbs.run(target, asked)
    assert (found["warnings"], found["quarantined"]) == ({"huge": 5}, {})
    shop.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'late', 99)")
    assert verbs.run(target, asked)["warnings"] == {"huge": 1}


def test_a_rule_that_fails_refuses_the_gate_before_anything_moves(shop: Database) -> None:
    asked = mapping(sku_missing={**MISSING, "do": "fail"})
    with pytest.raises(GateRefused, match="own-sku-missing"):
        verbs.run(verbs.open_target(shop.url), asked)
    assert shop.psql("SELECT to_regclass('locations') IS NULL") == "t"


def test_built_in_rules_come_first_then_own_ones_as_the_file_has_them(shop: Database) -> None:
    shop.psql("UPDATE stock_items SET quantity = NULL WHERE id = 3")
    first, second = {"a_rule": MISSING, "b_rule": MISSING}, {"b_rule": MISSING, "a_rule": MISSING}
    for rules, own in ((first, "a_rule"), (second, "b_rule")):
        asked = mapping(**rules)
        assert [*asked.rules.actions()][-2:] == [*rules]
        told = verbs.test(verbs.open_target(shop.url), asked)
        assert told["quarantined"] == {"quantity_missing": 1, own: 1}
    assert mapping(**first).hash != mapping(**second).hash
    assert mapping().hash == stage.MAPPING.hash


def test_each_own_rule_has_a_check_of_its_own_in_the_first_gate(shop: Database) -> None:
    asked = mapping(sku_missing=MISSING, huge=HUGE)
    told = expectations(asked, "audit_profile")
    assert told["own-sku-missing"] == "No stock record breaks the mapping's own rule sku_missing."
    assert "own-huge" in told
    assert "own-huge" not in expectations(asked, "transformed_stock")
    verdict = verbs.judge(verbs.open_target(shop.url), asked, "audit_profile", keep=False)
    failed = {e.key: (e.unexpected_count, e.severity) for e in verdict.failed}
    assert failed["own-sku-missing"] == (2, "warning")
    assert failed["own-huge"] == (5, "warning")
    assert verdict.passed


@pytest.mark.parametrize("guard", [True])
def test_the_guard_gives_no_location_to_what_breaks_an_own_rule(
    shop: Database, guard: bool
) -> None:
    asked = mapping(sku_missing=MISSING).model_copy(update={"guard": guard})
    stage.migrate(shop, asked)
    shop.psql("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, '', 1), (1, 'b', 1)")
    assert shop.psql(
        "SELECT sku, location_id IS NULL FROM stock_items WHERE id > 30 ORDER BY id"
    ) == "|t\nb|f"  # fmt: skip


def test_a_condition_that_the_server_refuses_is_named(shop: Database) -> None:
    for sql, said in (
        ("s.skuu IS NULL", "the server refuses it: column s.skuu does not exist"),
        ("s.quantity", "is integer, not a condition"),
        ("true) THEN 'x' END); DROP TABLE stock_items; --", "the server refuses it: syntax error"),
    ):
        with pytest.raises(MappingInvalid) as caught:
            verbs.test(
                verbs.open_target(shop.url), mapping(odd={"when": {"sql": sql}, "do": "warn"})
            )
        assert len(caught.value.problems) == 1
        assert caught.value.problems[0].startswith(f"shop: rules.odd.when: {said}")
    assert shop.psql("SELECT count(*) FROM stock_items") == "30"


OWN = "a rule of your own is {when: {sql: ...}, do: quarantine}, or warn, or fail"


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            "company_mising: quarantine",
            f"rules.company_mising: no rule of that name; did you mean company_missing?; {OWN}",
        ),
        ("zzz: 7", f"rules.zzz: no rule of that name; {OWN}"),
        ("zzz: {when: {sql: 'true'}}", "rules.zzz.do: missing"),
        ("zzz: {do: warn}", "rules.zzz.when: missing"),
        ("zzz: {when: s.x, do: warn}", "rules.zzz.when: should be {sql: ...}"),
        (
            "zzz: {when: {sql: 'true'}, do: skip}",
            "rules.zzz.do: should be 'quarantine', 'warn' or 'fail'",
        ),
        ("zzz: {when: {sql: 'true'}, do: warn, why: x}", "rules.zzz.why: unknown key"),
    ],
)
def test_a_rule_that_is_written_wrongly_is_told_with_its_line(rule: str, said: str) -> None:
    assert problems(f"{MINIMAL}rules:\n  {rule}\n") == [f"shop.yaml, line 16: {said}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Upper", "'Upper' cannot name a rule"),
        ("'a b'", "'a b' cannot name a rule"),
        ("'x'' OR true'", "cannot name a rule"),
        ("default_location_missing", "is a rule that nobody can change"),
        ("refused_by_server", "is a rule that nobody can change"),
    ],
)
def test_a_name_that_is_taken_or_is_none_is_refused(name: str, said: str) -> None:
    text = f"{MINIMAL}rules:\n  {name}: {{when: {{sql: 'true'}}, do: warn}}\n"
    (problem,) = problems(text)
    assert said in problem


def test_a_rule_is_not_called_like_a_reason_to_skip() -> None:
    with pytest.raises(ValueError, match="deleted is a reason to skip a record already"):
        mapping(deleted=MISSING)


def test_what_a_file_says_of_its_own_rules_is_read_in_its_order(tmp_path: Path) -> None:
    text = f"{MINIMAL}rules:\n  z: {{when: {{sql: 'true'}}, do: warn}}\n  negative_quantity: fail\n"
    found = parse_mapping(f"{text}  a: {{when: {{sql: 'false'}}, do: fail}}\n", str(tmp_path))
    assert [*found.rules.own] == ["z", "a"]
    assert found.rules.actions()["negative_quantity"] == "fail"
    assert found.rules.actions()["z"] == "warn"
