"""A record belongs to the company that a link table names: to one, to none, or to several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_mapping import MINIMAL, problems
from inventory_migration_tests.test_rollback import undo

pytestmark = pytest.mark.one_server

THROUGH = {"table": "ownership", "record": {"item": "id"}, "company": "owner"}
SHOP = """
    CREATE TABLE ownership (item bigint, owner bigint, since date DEFAULT now());
    CREATE INDEX ON ownership (item, owner);
    INSERT INTO ownership SELECT id, company_id FROM stock_items;
    ALTER TABLE stock_items DROP company_id;
    INSERT INTO ownership VALUES (3, 1), (4, NULL), (5, 3), (5, 3);
    DELETE FROM ownership WHERE item = 6;
    UPDATE ownership SET owner = 77 WHERE item = 7;
"""
"""Item 3 has two owners, 4 has one and nobody beside, 5 has one three times, 6 none, 7 a stranger."""


def mapping(through: dict[str, Any] | None = None, **changes: Any) -> StockMapping:
    source = {**stage.DEFINITION["source"], "company": {"through": through or THROUGH}}
    limits = {"quarantined_percent": 50}
    return stage.mapping(**{"source": source, "thresholds": limits, **changes})


@pytest.fixture
def shop(database: Database) -> Database:
    stage.shop(database)
    # Item n belongs to company (n - 1) % 3 + 1.
    database.psql(f"{SHOP} UPDATE ownership SET owner = 2 WHERE item = 5")
    return database


def test_two_owners_and_none_are_put_aside_and_no_record_comes_twice(shop: Database) -> None:
    target = verbs.open_target(shop.url)
    expected = {"company_ambiguous": 1, "company_missing": 2}
    predicted = verbs.test(target, mapping())
    assert (predicted["records"]["snapshot"], predicted["quarantined"]) == (30, expected)
    found = verbs.run(target, mapping())
    assert (found["state"], found["quarantined"]) == ("verified", expected)
    assert found["records"]["migrated"] == 27
    assert shop.psql(
        "SELECT key_text, rule, reason FROM inventory_migration.outcome ORDER BY 1"
    ) == (
        "3|company_ambiguous|belongs to more than one company\n"
        "6|company_missing|no company with this key\n"
        "7|company_missing|no company with this key"
    )
    assert (
        shop.psql(
            "SELECT count(*) FROM stock_items s JOIN locations l ON l.id = s.location_id "
            "JOIN (SELECT DISTINCT item, owner FROM ownership WHERE owner IS NOT NULL) o "
            "ON o.item = s.id WHERE o.owner = l.company_id"
        )
        == "27"
    )
    assert shop.psql("SELECT sum(quantity) FROM stock_items") == str(sum(range(1, 31)))


def test_the_gate_names_the_ambiguous_and_does_not_call_them_missing(shop: Database) -> None:
    verdict = verbs.judge(verbs.open_target(shop.url), mapping(), "audit_profile", keep=False)
    failed = {e.key: (e.unexpected_count, e.sample) for e in verdict.failed}
    assert failed["company-unambiguous"] == (1, ("3",))
    assert failed["company-present"] == (1, ("6",))
    assert failed["company-exists"] == (1, ("7",))


def test_where_the_record_names_its_company_there_is_no_such_rule(database: Database) -> None:
    stage.shop(database)
    verdict = verbs.judge(verbs.open_target(database.url), stage.MAPPING, "audit_profile")
    assert "company-unambiguous" not in {e.key for e in verdict.expectations}


def test_the_way_back_leaves_records_and_links_as_they_were(shop: Database) -> None:
    owners = "SELECT item, owner FROM ownership ORDER BY 1, 2"
    before = shop.psql(owners)
    stage.migrate(shop, mapping(guard=True))
    undo(shop, mapping(guard=True))
    assert shop.psql(owners) == before
    assert shop.psql("SELECT count(location_id), (SELECT count(*) FROM locations) "
                     "FROM stock_items") == "0|0"  # fmt: skip


def test_a_record_may_be_named_by_several_columns_of_any_type_and_name(database: Database) -> None:
    stage.shop(database, companies=2, items=6)
    database.psql(
        """
        ALTER TABLE stock_items ADD "lot; no" text, ADD shelf uuid DEFAULT gen_random_uuid();
        UPDATE stock_items SET "lot; no" = 'é %s :x ' || id;
        CREATE TABLE "own er" ("shelf?" uuid, "LOT" text, "who" bigint);
        CREATE UNIQUE INDEX ON "own er" ("shelf?", "LOT", "who");
        INSERT INTO "own er" SELECT shelf, "lot; no", company_id FROM stock_items;
        ALTER TABLE stock_items DROP company_id;
        """
    )
    through = {
        "table": "own er",
        "record": {"LOT": "lot; no", "shelf?": "shelf"},
        "company": "who",
    }
    assert verbs.run(verbs.open_target(database.url), mapping(through))["records"]["migrated"] == 6


@pytest.fixture
def worked(server: EmbeddedServer) -> Iterator[WorkedDatabase]:
    with worked_database(server) as made:
        yield made


def test_a_worker_with_the_printed_grants_reads_the_link_table(worked: WorkedDatabase) -> None:
    stage.shop(worked)
    worked.psql(SHOP)
    worked.hand_over(mapping())
    assert verbs.run(verbs.open_target(worked.worker_url), mapping())["state"] == "verified"


# ruff: noqa: E501
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"table": "ownershop"}, "table: there is no table ownershop; did you mean ownership?"),
    ({"company": "ownr"}, "company: table ownership has no column ownr; did you mean owner?"),
    ({"record": {"itm": "id"}}, "record.itm: table ownership has no column itm; did you mean item?"),
    ({"record": {"item": "idd"}}, "record.item: table stock_items has no column idd; did you mean id?"),
    (
        {"record": {"since": "id"}},
        "record.since: is date and cannot be compared with id of stock_items, bigint",
    ),
    (
        {"record": {"owner": "id"}},
        "record: each record would read all of ownership: create an index on (owner)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said[:20] for _, said in WRONG])
def test_what_is_wrong_with_a_link_is_said_before_anything_is_written(
    shop: Database, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(MappingInvalid) as caught:
        verbs.run(verbs.open_target(shop.url), mapping(THROUGH | change))
    assert f"shop: source.company.through.{said}" in caught.value.problems


@pytest.mark.parametrize(
    ("company", "said"),
    [
        ("{through: ownership}", "source.company.through: should be a set of keys"),
        ("{through: {table: o, company: c}}", "source.company.through.record: missing"),
        ("{through: {table: o, record: {}, company: c}}",
         "source.company.through.record: is empty, and needs one at least"),
        ("{through: {table: o, record: {a: b}, company: c}, sql: x}",
         "source.company.sql: unknown key"),
    ],
)  # fmt: skip
def test_a_link_that_is_written_wrongly_is_told_with_its_line(company: str, said: str) -> None:
    text = MINIMAL.replace("  company: company_id\n  item", f"  company: {company}\n  item")
    assert problems(text) == [f"shop.yaml, line 11: {said}"]
