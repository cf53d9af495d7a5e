"""A join finds exactly one row for each record, or nothing is migrated with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.engine import plan
from inventory_migration.engine.joins import refuse_unfaithful
from inventory_migration.engine.snapshot import write_snapshot
from inventory_migration.errors import MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration.report.documents import write_report
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database

pytestmark = pytest.mark.one_server

INNER = "JOIN products AS p ON p.code = s.product"
LEFT = f"LEFT {INNER}"


def source(joins: str = INNER) -> dict[str, Any]:
    """The source of a shop whose records' companies stand with their products."""
    return {**stage.DEFINITION["source"], "company": {"sql": "p.company_id"}, "joins": joins}


def joined(joins: str = INNER) -> StockMapping:
    return stage.mapping(source=source(joins))


def shop(database: Database) -> None:
    """Twelve records of two companies, a product for each; nothing keeps a product's code once."""
    stage.shop(database, companies=2, items=12)
    database.psql(
        "CREATE TABLE products AS SELECT id AS code, company_id FROM stock_items;"
        "ALTER TABLE stock_items RENAME company_id TO product;"
        "UPDATE stock_items SET product = id"
    )


def problems(database: Database, mapping: StockMapping) -> list[str]:
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection, pytest.raises(MappingInvalid) as caught:
        refuse_unfaithful(connection, resolved)
    assert caught.value.exit_code == 2
    return caught.value.problems


def accept(database: Database, mapping: StockMapping) -> None:
    resolved = plan.read_mapping(database.engine, mapping)
    with database.engine.connect() as connection:
        refuse_unfaithful(connection, resolved)


TWICE = "INSERT INTO products SELECT code, company_id FROM products WHERE code IN (4, 7, 9)"
ONCE = "a join must find exactly one row for each record"


def test_records_that_come_more_than_once_are_counted_and_named(database: Database) -> None:
    shop(database)
    accept(database, joined())
    database.psql(TWICE)
    assert problems(database, joined()) == [
        f"shop: source.joins: 3 records come more than once (such as 4, 7, 9); {ONCE}; join on a "
        "unique key of the other table, or on a subselect that has one row for each"
    ]


def test_records_that_do_not_come_at_all_are_counted_and_named(database: Database) -> None:
    shop(database)
    database.psql("DELETE FROM products WHERE code = 5")
    assert problems(database, joined()) == [
        f"shop: source.joins: 1 record does not come at all (such as 5); {ONCE}; LEFT JOIN keeps "
        "those without a partner"
    ]
    accept(database, joined(LEFT))


def test_all_that_is_wrong_is_told_at_once_with_five_keys_each(database: Database) -> None:
    shop(database)
    database.psql(
        "DELETE FROM products WHERE code <= 6;"
        "INSERT INTO products SELECT code, 1 FROM products, generate_series(1, 3)"
    )
    twice, never = problems(database, joined())
    assert twice.startswith(
        "shop: source.joins: 6 records come more than once (such as 7, 8, 9, 10, 11);"
    )
    assert never.startswith(
        "shop: source.joins: 6 records do not come at all (such as 1, 2, 3, 4, 5);"
    )


@pytest.mark.parametrize("kind", ["RIGHT", "FULL"])
def test_rows_that_belong_to_no_record_are_refused(database: Database, kind: str) -> None:
    shop(database)
    accept(database, joined(f"{kind} {INNER}"))
    database.psql("INSERT INTO products VALUES (70, 1), (71, 2)")
    assert problems(database, joined(f"{kind} {INNER}")) == [
        f"shop: source.joins: 2 rows belong to no record; {ONCE}; LEFT JOIN adds none"
    ]


def test_a_record_without_a_partner_is_kept_by_a_left_join_and_put_aside(
    database: Database,
) -> None:
    shop(database)
    database.psql("DELETE FROM products WHERE code = 5")
    mapping = stage.mapping(source=source(LEFT), thresholds={"quarantined_percent": 50})
    target = verbs.open_target(database.url)
    assert verbs.test(target, mapping)["quarantined"] == {"company_missing": 1}
    found = verbs.run(target, mapping)
    assert (found["records"]["migrated"], found["quarantined"]) == (11, {"company_missing": 1})


def test_keys_are_compared_as_they_are_and_never_as_text(database: Database) -> None:
    """As one text, two of these keys would be the same; in their own type, 1.0 and 1.00 are."""
    database.psql(
        """
        CREATE TABLE companies (id bigint PRIMARY KEY, name text);
        CREATE TABLE "Stock: items %s" ("Lot, no" text, "order" numeric, "Where?" text, sku text,
            quantity int, reserved int, deleted_at timestamptz,
            PRIMARY KEY ("Lot, no", "order", "Where?"));
        CREATE TABLE "Lots" ("Where?" text, "order" numeric, company_id bigint);
        INSERT INTO companies VALUES (1, 'One');
        INSERT INTO "Stock: items %s" VALUES ('a', 1.0, '1, b', 'x', 1, 0),
            ('a, 1.0', 1, 'b', 'x', 1, 0), ('c', 2, 'c', 'x', 1, 0);
        INSERT INTO "Lots" VALUES ('1, b', 1.00, 1), ('b', 1, 1), ('c', 2.000, 1);
        """
    )
    mapping = stage.mapping(
        source={
            **source('JOIN "Lots" p ON p."Where?" = s."Where?" AND p."order" = s."order"'),
            "table": "Stock: items %s",
            "key": ["Lot, no", "order", "Where?"],
        }
    )
    accept(database, mapping)
    database.psql("""INSERT INTO "Lots" VALUES ('c', 2, 1)""")
    (problem,) = problems(database, mapping)
    assert "1 record comes more than once (such as c, 2, c);" in problem


def test_tables_may_be_called_as_the_question_calls_its_parts(database: Database) -> None:
    shop(database)
    for name in ("im_joined", "im_wrong"):
        database.psql(f"CREATE TABLE {name} AS SELECT * FROM products")
        accept(database, joined(f"JOIN {name} AS p ON p.code = s.product"))


def test_nothing_is_asked_where_nothing_is_joined(database: Database) -> None:
    stage.shop(database, items=2)
    resolved = plan.read_mapping(database.engine, stage.MAPPING)
    nobody: Any = None
    refuse_unfaithful(nobody, resolved)


@pytest.mark.slow
def test_test_and_run_refuse_before_anything_is_written(database: Database, tmp_path: Path) -> None:
    shop(database)
    database.psql(TWICE)
    before = stage.table(database, "stock_items")
    target = verbs.open_target(database.url)
    for verb in (verbs.test, verbs.run):
        with pytest.raises(MappingInvalid, match="3 records come more than once"):
            verb(target, joined())
    path = mapping_file(tmp_path, source=source())
    words = ("--mapping", path, "--database-url", database.url)
    for command in ("test", "run"):
        said = sentence(im(command, *words, code=2))
        assert said.startswith("Error: shop: source.joins: 3 records come more than once")
        told = answer(command, *words, code=2)["error"]
        assert told["kind"] == "MappingInvalid"
        assert "3 records come more than once (such as 4, 7, 9)" in told["problems"][0]
    assert stage.table(database, "stock_items") == before
    assert (
        database.psql(
            "SELECT to_regnamespace('inventory_migration') IS NULL, "
            "to_regclass('locations') IS NULL"
        )
        == "t|t"
    )


def test_no_step_plans_a_migration_with_a_join_that_changed_since_its_audit(
    database: Database,
) -> None:
    shop(database)
    stage.pass_gate(database.engine, joined(), "audit_profile")
    database.psql(TWICE)
    with pytest.raises(MappingInvalid, match="3 records come more than once"):
        stage.locations(database, joined())
    assert database.psql("SELECT count(*) FROM inventory_migration.migration") == "0"
    assert database.psql("SELECT to_regclass('locations') IS NULL") == "t"


@pytest.mark.parametrize("change", [TWICE, "DELETE FROM products WHERE code IN (2, 3)"])
def test_the_snapshot_is_not_written_with_a_join_that_changed_since(
    database: Database, change: str
) -> None:
    shop(database)
    migration = stage.locations(database, joined())
    assert migration is not None
    database.psql(change)
    with pytest.raises(MappingInvalid, match=r"source\.joins: . records"):
        stage.transform(database, joined())
    assert database.psql("SELECT to_regclass('inventory_migration.snapshot_1') IS NULL") == "t"
    assert database.psql("SELECT count(location_id) FROM stock_items") == "0"
    assert database.psql("SELECT state FROM inventory_migration.migration") == "planned"
    database.psql(
        "DROP TABLE products; "
        "CREATE TABLE products AS SELECT id AS code, (id - 1) % 2 + 1 AS company_id "
        "FROM stock_items"
    )
    stage.migrate(database, joined())
    assert stage.outcomes(database) == {"migrated": 12}


def test_the_look_at_the_join_and_the_snapshot_are_of_one_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of its own would see another moment than the snapshot does."""
    shop(database)
    migration = stage.locations(database, joined())
    assert migration is not None
    resolved = plan.read_mapping(database.engine, joined())
    asked: list[str] = []

    def refuse(connection: Any, _: Any) -> None:
        asked.append(connection.exec_driver_sql("SELECT pg_current_xact_id()::xid").scalar())

    monkeypatch.setattr("inventory_migration.engine.joins.refuse_unfaithful", refuse)
    write_snapshot(database.engine, resolved, migration)
    assert asked == [database.psql("SELECT xmin FROM pg_class WHERE relname = 'snapshot_1'")]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM products WHERE code = 5",
        "INSERT INTO stock_items (id, product, sku, quantity) VALUES (70, 70, 'late', 7)",
    ],
    ids=["lost since", "arrived without"],
)
def test_nothing_is_verified_with_a_join_that_loses_records(
    database: Database, change: str, tmp_path: Path
) -> None:
    shop(database)
    stage.locations(database, joined())
    stage.transform(database, joined())
    database.psql(change)
    with pytest.raises(MappingInvalid, match="1 record does not come at all"):
        stage.close(database, joined())
    assert database.psql("SELECT state FROM inventory_migration.migration") == "running"
    target = verbs.open_target(database.url)
    with pytest.raises(MappingInvalid, match="1 record does not come at all"):
        verbs.validate(target, joined())
    told = json.loads(Path(write_report(target, joined(), tmp_path)["json"] or "").read_text())
    assert "1 record does not come at all" in told["not_comparable"]
