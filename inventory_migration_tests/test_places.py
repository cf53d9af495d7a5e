"""Locations whose company stands in no column of theirs, and whose keys are made from a template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from inventory_migration import verbs
from inventory_migration.catalog import literal
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import DefaultLocationWrong, MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.hostile import SPELLS
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_mapping import MINIMAL, problems
from inventory_migration_tests.test_rollback import undo

ONE = {"sql": "SELECT 'main' AS key, 'The shop' AS name"}
PLACES = """
    CREATE TABLE places (id text PRIMARY KEY, title text NOT NULL, main boolean NOT NULL,
                         kind text NOT NULL, metadata jsonb NOT NULL);
"""
"""Locations of an application that has no column for their company."""

LOCATIONS: dict[str, Any] = {
    "table": "places",
    "key": "id",
    "company": {"sql": "(l.metadata ->> 'tenant')::bigint -- whose"},
    "default": {"main": True},
    "create": {
        "id": {"sql": "'store_' || c.id"},
        "title": {"sql": "c.name || ', main store'"},
        "kind": "warehouse",
        "metadata": {"sql": "jsonb_build_object('tenant', c.id)"},
    },
}


def mapping(**changes: Any) -> StockMapping:
    return stage.mapping(**{"locations": LOCATIONS, **changes})


def located(**changes: Any) -> StockMapping:
    return mapping(locations={**LOCATIONS, **changes})


@pytest.fixture
def shop(database: Database) -> Database:
    stage.shop(database, items=12)
    database.psql(PLACES)
    return database


def places(database: Database) -> list[str]:
    return database.psql("SELECT id, title, kind FROM places ORDER BY id").splitlines()


STOCK = "SELECT location_id, count(*) FROM stock_items GROUP BY 1 ORDER BY 1"


@pytest.mark.parametrize("guard", [False, True])
def test_an_expression_says_whose_a_location_is_all_the_way_and_back(
    shop: Database, guard: bool
) -> None:
    shop.psql("INSERT INTO places VALUES ('old', 'Old', true, 'shop', '{\"tenant\": 2}')")
    before = stage.table(shop, "stock_items")
    asked = mapping(guard=guard)
    assert stage.migrate(shop, asked).proof.passed
    assert places(shop) == [
        "old|Old|shop",
        "store_1|Company 1, main store|warehouse",
        "store_3|Company 3, main store|warehouse",
    ]
    assert shop.psql(STOCK) == "old|4\nstore_1|4\nstore_3|4"
    shop.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (2, 'new', 1);"
        "INSERT INTO companies VALUES (9, 'Late');"
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (9, 'late', 1)"
    )
    given = "SELECT sku, location_id FROM stock_items WHERE sku IN ('new', 'late') ORDER BY 1"
    assert shop.psql(given) == ("late|\nnew|old" if guard else "late|\nnew|")
    assert stage.migrate(shop, asked).proof.passed
    assert shop.psql(given) == "late|store_9\nnew|old"
    shop.psql("DELETE FROM stock_items WHERE sku IN ('new', 'late')")
    undo(shop, asked)
    assert stage.table(shop, "stock_items", ("location_id",)) == before
    assert places(shop) == ["old|Old|shop"]
    assert stage.migrate(shop, asked).proof.passed
    assert len(places(shop)) == 4


def test_a_location_of_another_company_is_foreign_whatever_says_so(shop: Database) -> None:
    shop.psql(
        "INSERT INTO places VALUES ('theirs', 'T', false, 'shop', '{\"tenant\": 2}'),"
        "('nobodys', 'N', false, 'shop', '{}'), ('own', 'O', false, 'shop', '{\"tenant\": 1}');"
        "ALTER TABLE stock_items ADD location_id text;"
        "UPDATE stock_items SET location_id = 'theirs' WHERE id = 1;"
        "UPDATE stock_items SET location_id = 'nobodys' WHERE id = 4;"
        "UPDATE stock_items SET location_id = 'own' WHERE id = 7"
    )
    found = verbs.run(verbs.open_target(shop.url), mapping(thresholds={"quarantined_percent": 50}))
    assert found["quarantined"] == {"location_foreign": 2}
    assert (found["records"]["already"], found["records"]["migrated"]) == (1, 9)


@pytest.mark.parametrize("company", ["'main'", "(SELECT 'main'::varchar)"])
def test_an_application_without_tenants_needs_no_column_for_its_only_company(
    database: Database, company: str
) -> None:
    stage.shop(database, companies=1, items=6)
    database.psql(PLACES + "INSERT INTO places VALUES ('other', 'Other', false, 'shop', '{}')")
    create = {"id": "store", "title": "Main", "kind": "warehouse", "metadata": "{}"}
    one = mapping(
        company=ONE,
        source={**stage.DEFINITION["source"], "company": {"sql": "'main'"}},
        locations={**LOCATIONS, "company": {"sql": company}, "create": create},
    )
    target = verbs.open_target(database.url)
    assert verbs.test(target, one)["locations_created"] == 1
    found = verbs.run(target, one)
    assert (found["state"], found["locations_created"]) == ("verified", 1)
    assert database.psql(STOCK) == "store|6"
    assert verbs.run(target, one)["changed"] is False
    undo(database, one)
    assert places(database) == ["other|Other|shop"]


MADE_WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "",
        {"metadata": {"sql": "jsonb_build_object('tenant', c.id % 2 + 1)"}},
        [f"company {n} (Company {n})" for n in (1, 2, 3)],
    ),
    ("", {"metadata": "{}"}, [f"company {n} (Company {n})" for n in (1, 2, 3)]),
    (
        "CREATE FUNCTION shy() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.main := NEW.id <> 'store_2'; RETURN NEW; END $$;"
        "CREATE TRIGGER shy BEFORE INSERT ON places FOR EACH ROW EXECUTE FUNCTION shy()",
        {},
        ["company 2 (Company 2)"],
    ),
]


@pytest.mark.parametrize(("sabotage", "create", "companies"), MADE_WRONG)
def test_what_would_not_be_its_companys_default_location_is_not_created(
    shop: Database, sabotage: str, create: dict[str, Any], companies: list[str]
) -> None:
    shop.psql(sabotage)
    asked = located(create={**LOCATIONS["create"], **create})
    with pytest.raises(
        DefaultLocationWrong, match="it a default location of its company"
    ) as caught:
        stage.locations(shop, asked)
    assert caught.value.companies == companies
    assert places(shop) == []
    assert shop.psql("SELECT count(*) FROM inventory_migration.company_location") == "0"
    # Mended, it goes on.
    shop.psql("DROP TRIGGER IF EXISTS shy ON places")
    undo(shop, asked)
    assert stage.migrate(shop, mapping()).proof.passed


def test_a_key_from_a_template_is_the_companys_name_letter_by_letter(shop: Database) -> None:
    """As are a title and a kind that must not be NULL, and the record's reference to it."""
    shop.psql("TRUNCATE companies, stock_items")
    for number, spell in enumerate(SPELLS, start=1):
        shop.psql(
            f"INSERT INTO companies VALUES ({number}, {literal(spell)});"
            f"INSERT INTO stock_items (company_id, sku, quantity) VALUES ({number}, 'x', 1)"
        )
    create = {
        **LOCATIONS["create"],
        "id": {"sql": "'st:ore_' || c.name || ' %s {} :x'"},
        "kind": "".join(SPELLS),
    }
    asked = located(create=create)
    found = verbs.run(verbs.open_target(shop.url), asked)
    assert (found["state"], found["records"]["migrated"]) == ("verified", len(SPELLS))
    with shop.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT p.id, s.location_id, p.kind FROM places p "
            "JOIN stock_items s ON s.company_id = (p.metadata ->> 'tenant')::bigint ORDER BY s.id"
        ).all()
    keys = [f"st:ore_{spell} %s {{}} :x" for spell in SPELLS]
    assert [tuple(row) for row in rows] == [(key, key, "".join(SPELLS)) for key in keys]
    undo(shop, asked)
    assert places(shop) == []
    assert shop.psql("SELECT count(location_id) FROM stock_items") == "0"


def test_a_key_that_nobody_else_has_begins_with_its_prefix(shop: Database) -> None:
    asked = located(create={**LOCATIONS["create"], "id": {"generate": "uuid", "prefix": "sl'%:x_"}})
    assert stage.migrate(shop, asked).proof.passed
    assert shop.psql(
        "SELECT count(DISTINCT p.id), count(*), bool_and(p.id ~ '^sl''%:x_[0-9a-f]{32}$') "
        "FROM places p JOIN stock_items s ON s.location_id = p.id"
    ) == "3|12|t"  # fmt: skip


def test_two_companies_of_one_template_are_refused_by_the_key_and_nothing_is_written(
    shop: Database,
) -> None:
    asked = located(create={**LOCATIONS["create"], "id": "the_store"})
    with pytest.raises(Exception, match="places_pkey"):
        verbs.run(verbs.open_target(shop.url), asked)
    assert places(shop) == []


@pytest.fixture
def worked(server: EmbeddedServer) -> Iterator[WorkedDatabase]:
    with worked_database(server) as made:
        yield made


def test_a_worker_with_the_printed_grants_reads_what_the_expression_reads(
    worked: WorkedDatabase,
) -> None:
    stage.shop(worked, items=6)
    worked.psql(
        f"{PLACES} ALTER TABLE places DROP id, ADD id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"
        "CREATE TABLE tenancy (code text PRIMARY KEY, tenant bigint NOT NULL);"
        "INSERT INTO tenancy SELECT 'code-' || id, id FROM companies"
    )
    asked = located(
        company={"sql": "SELECT t.tenant FROM tenancy t WHERE t.code = l.kind"},
        create={
            "title": "Main",
            "metadata": "{}",
            "kind": {"sql": "SELECT t.code FROM tenancy t WHERE t.tenant = c.id"},
        },
    )
    worked.hand_over(asked)
    assert verbs.run(verbs.open_target(worked.worker_url), asked)["state"] == "verified"


# ruff: noqa: E501
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"company": {"sql": "l.tenant"}},
        "locations.company: the server refuses it: column l.tenant does not exist",
    ),
    (
        {"company": {"sql": "l.metadata"}},
        "locations.company: is jsonb and cannot be compared with company.key, bigint",
    ),
    (
        {"company": {"sql": "1) AS owner FROM places; DROP TABLE places; --"}},
        'locations.company: the server refuses it: syntax error at or near ";"',
    ),
    (
        {"create": {"id": "x", "title": "x", "kind": None}},
        "locations.create: column metadata of places needs a value and has no default; add it to create",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_what_is_wrong_with_whose_a_location_is_is_said_before_anything_is_written(
    shop: Database, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(MappingInvalid) as caught:
        verbs.run(verbs.open_target(shop.url), located(**change))
    assert f"shop: {said}" in caught.value.problems
    assert shop.psql("SELECT to_regnamespace('inventory_migration')") == ""


@pytest.mark.parametrize(
    ("company", "said"),
    [
        ("[id]", "locations.company: should be a column or {sql: ...}"),
        ("{sql: ''}", "locations.company.sql: is empty"),
        ("{sql: a, key: b}", "locations.company.key: unknown key"),
        (
            "{sql: '1'}\n  add: true",
            "locations: a table that is added gets a column for the company: name it in company, or take add out",
        ),
    ],
)
def test_each_form_says_what_it_lacks(company: str, said: str) -> None:
    text = MINIMAL.replace("  company: company_id\n  def", f"  company: {company}\n  def")
    [found] = problems(text)
    assert found.partition(": ")[2] == said
