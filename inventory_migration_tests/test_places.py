"""Locations whose company stands in no column of theirs, and whose keys are made from a template."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.catalog import literal
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import plan
from inventory_migration.errors import DefaultLocationWrong, MappingInvalid
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.hostile import SPELLS
from inventory_migration_tests.roles import WorkedDatabase, worked_database
from inventory_migration_tests.test_mapping import MINIMAL, problems
from inventory_migration_tests.test_rollback import foretell, undo

pytestmark = pytest.mark.one_server

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


def what_comes_late_finds_its_place_and_goes_back(
    shop: Database, asked: StockMapping, before: str
) -> None:
    """A new record of a company that has a location, and one of a company that comes with it."""
    shop.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (2, 'new', 1);"
        "INSERT INTO companies VALUES (9, 'Late');"
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (9, 'late', 1)"
    )
    given = "SELECT sku, location_id FROM stock_items WHERE sku IN ('new', 'late') ORDER BY 1"
    assert shop.psql(given) == "late|\nnew|old"
    assert stage.migrate(shop, asked).proof.passed
    assert shop.psql(given) == "late|store_9\nnew|old"
    shop.psql("DELETE FROM stock_items WHERE sku IN ('new', 'late')")
    undo(shop, asked)
    assert stage.table(shop, "stock_items", ("location_id",)) == before


def test_an_expression_says_whose_a_location_is_all_the_way_and_back(shop: Database) -> None:
    """The guard trigger finds a company's default location by it, and the sweep makes late ones."""
    shop.psql("INSERT INTO places VALUES ('old', 'Old', true, 'shop', '{\"tenant\": 2}')")
    before = stage.table(shop, "stock_items")
    asked = mapping(guard=True)
    assert stage.migrate(shop, asked).proof.passed
    assert places(shop) == [
        "old|Old|shop",
        "store_1|Company 1, main store|warehouse",
        "store_3|Company 3, main store|warehouse",
    ]
    assert shop.psql(STOCK) == "old|4\nstore_1|4\nstore_3|4"
    what_comes_late_finds_its_place_and_goes_back(shop, asked, before)
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
    asked = mapping(thresholds={"quarantined_percent": 50})
    assert stage.migrate(shop, asked).proof.passed
    assert stage.outcomes(shop) == {"already": 1, "migrated": 9, "quarantined": 2}
    assert shop.psql(
        "SELECT rule, string_agg(key_text, ' ') FROM inventory_migration.outcome "
        "WHERE outcome = 'quarantined' GROUP BY 1"
    ) == "location_foreign|1 4"  # fmt: skip


@pytest.mark.slow
def test_an_application_without_tenants_needs_no_column_for_its_only_company(
    database: Database,
) -> None:
    stage.shop(database, companies=1, items=6)
    database.psql(PLACES + "INSERT INTO places VALUES ('other', 'Other', false, 'shop', '{}')")
    create = {"id": "store", "title": "Main", "kind": "warehouse", "metadata": "{}"}
    one = mapping(
        company=ONE,
        source={**stage.DEFINITION["source"], "company": {"sql": "'main'"}},
        locations={**LOCATIONS, "company": {"sql": "'main'"}, "create": create},
    )
    target = verbs.open_target(database.url)
    assert verbs.test(target, one)["locations_created"] == 1
    found = verbs.run(target, one)
    assert (found["state"], found["locations_created"]) == ("verified", 1)
    assert database.psql(STOCK) == "store|6"
    assert verbs.run(target, one)["changed"] is False
    undo(database, one)
    assert places(database) == ["other|Other|shop"]


def test_what_would_not_be_its_companys_default_location_is_not_created(shop: Database) -> None:
    """By its row, that the expression reads, or by a trigger that makes it another's, or none."""
    shop.psql(
        "CREATE FUNCTION shy() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.main := NEW.id <> 'store_2'; RETURN NEW; END $$;"
        "CREATE TRIGGER shy BEFORE INSERT ON places FOR EACH ROW EXECUTE FUNCTION shy()"
    )
    swapped = {"sql": "jsonb_build_object('tenant', 4 - c.id)"}
    for metadata, companies in (
        (swapped, ["company 1 (Company 1)", "company 2 (Company 2)", "company 3 (Company 3)"]),
        ("{}", ["company 1 (Company 1)", "company 2 (Company 2)", "company 3 (Company 3)"]),
        (LOCATIONS["create"]["metadata"], ["company 2 (Company 2)"]),
    ):
        asked = located(create={**LOCATIONS["create"], "metadata": metadata})
        with pytest.raises(DefaultLocationWrong, match="it a default location of its") as caught:
            stage.locations(shop, asked)
        assert caught.value.companies == companies
        assert "'inventory-migration rollback shop', and run again" in str(caught.value)
        assert places(shop) == []
        assert shop.psql("SELECT count(*) FROM inventory_migration.company_location") == "0"
        undo(shop, asked)
    shop.psql("DROP TRIGGER shy ON places")
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
    assert stage.migrate(shop, asked).proof.passed
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
    with pytest.raises(sa.exc.IntegrityError, match="places_pkey"):
        stage.locations(shop, asked)
    assert places(shop) == []


LINKED = """
    CREATE TABLE place_owners (id text PRIMARY KEY, place text NOT NULL, owner bigint NOT NULL,
                               since timestamptz NOT NULL, note text, deleted_at timestamptz);
    CREATE INDEX ON place_owners (place);
"""
"""The table that says whose a location is; it need not have foreign keys, nor unique ones."""

THROUGH: dict[str, Any] = {
    "table": "place_owners",
    "location": "place",
    "company": "owner",
    "where": {"sql": "o.deleted_at IS NULL -- the living"},
    "values": {
        "id": {"generate": "uuid", "prefix": "own_"},
        "since": {"sql": "clock_timestamp()"},
        "note": {"sql": "'of ' || c.name"},
    },
}


def linked(through: dict[str, Any] | None = None, **changes: Any) -> StockMapping:
    create = {**LOCATIONS["create"], "metadata": "{}"}
    company = {"through": {**THROUGH, **(through or {})}}
    return located(**{"company": company, "create": create, **changes})


def link(database: Database, place: str, owner: int, *, dead: bool = False) -> None:
    died = "now()" if dead else "NULL"
    database.psql(
        "INSERT INTO place_owners VALUES "
        f"(gen_random_uuid(), '{place}', {owner}, now(), 'theirs', {died})"
    )


OWNERS = "SELECT place, owner, note FROM place_owners ORDER BY 1, 2"


def test_a_link_table_says_whose_a_location_is_all_the_way_and_back(shop: Database) -> None:
    """Company 2 has its own; 3 had, but that link is deleted, and the place is nobody's default."""
    shop.psql(
        f"{LINKED} INSERT INTO places VALUES ('old', 'Old', true, 'shop', '{{}}'), "
        "('gone', 'Gone', false, 'shop', '{}')"
    )
    link(shop, "old", 2)
    link(shop, "old", 2)
    link(shop, "gone", 3, dead=True)
    before, owners = stage.table(shop, "stock_items"), shop.psql(OWNERS)
    asked = mapping(guard=True, locations=linked().locations)
    assert stage.migrate(shop, asked).proof.passed
    assert shop.psql(STOCK) == "old|4\nstore_1|4\nstore_3|4"
    assert shop.psql(OWNERS).splitlines() == [
        "gone|3|theirs",
        "old|2|theirs",
        "old|2|theirs",
        "store_1|1|of Company 1",
        "store_3|3|of Company 3",
    ]
    what_comes_late_finds_its_place_and_goes_back(shop, asked, before)
    assert (places(shop), shop.psql(OWNERS)) == (["gone|Gone|shop", "old|Old|shop"], owners)
    assert stage.migrate(shop, asked).proof.passed
    assert len(places(shop)) == 5


def test_a_company_that_comes_late_gets_its_location_and_its_link(shop: Database) -> None:
    shop.psql(LINKED)
    stage.locations(shop, linked())
    stage.transform(shop, linked())
    shop.psql(
        "INSERT INTO companies VALUES (9, 'Late');"
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (9, 'late', 1)"
    )
    assert stage.close(shop, linked()).proof.passed
    assert shop.psql(OWNERS).splitlines()[-1] == "store_9|9|of Late"
    undo(shop, linked())
    assert (places(shop), shop.psql(OWNERS)) == ([], "")


def test_two_companies_may_share_a_location_that_is_the_default_of_both(shop: Database) -> None:
    """Records of either may be there already, those of others may not, and nobody's place is free.

    What a location needs beside itself, it needs once.
    """
    shop.psql(
        f"{LINKED} INSERT INTO places VALUES ('both', 'Both', true, 'shop', '{{}}'), "
        "('aside', 'Aside', false, 'shop', '{}'), ('nobodys', 'None', false, 'shop', '{}');"
        "CREATE TABLE zones (place text PRIMARY KEY REFERENCES places);"
        "ALTER TABLE stock_items ADD location_id text;"
        # Item n belongs to company (n - 1) % 3 + 1.
        "UPDATE stock_items SET location_id = 'both' WHERE id IN (1, 2, 3);"
        "UPDATE stock_items SET location_id = 'aside' WHERE id IN (4, 5, 6);"
        "UPDATE stock_items SET location_id = 'nobodys' WHERE id = 7"
    )
    for place, owner in (("both", 1), ("both", 2), ("aside", 2), ("aside", 3), ("aside", 3)):
        link(shop, place, owner)
    before = stage.table(shop, "stock_items")
    asked = linked(links=[{"table": "zones", "values": {"place": {"from": "location"}}}])
    asked = mapping(locations=asked.locations, thresholds={"quarantined_percent": 50})
    target = verbs.open_target(shop.url)
    predicted = verbs.test(target, asked)
    found = verbs.run(target, asked)
    assert (found["state"], found["locations_created"], found["locations_adopted"]) == (
        "verified", 1, 1,
    )  # fmt: skip
    for numbers in (predicted, found):
        assert numbers["quarantined"] == {"location_foreign": 3}
        assert (numbers["records"]["already"], numbers["records"]["migrated"]) == (4, 5)
    assert shop.psql(
        "SELECT location_id, string_agg(id::text, ' ' ORDER BY id) FROM stock_items "
        "GROUP BY 1 ORDER BY 1"
    ) == "aside|4 5 6\nboth|1 2 3 8 10 11\nnobodys|7\nstore_3|9 12"  # fmt: skip
    assert shop.psql("SELECT place FROM zones ORDER BY 1") == "both\nstore_3"
    undo(shop, asked)
    assert stage.table(shop, "stock_items") == before
    assert (places(shop)[-1], shop.psql("SELECT count(*) FROM zones")) == ("nobodys|None|shop", "0")


def test_a_link_that_the_application_is_making_is_waited_for(shop: Database) -> None:
    """Company 2 comes to share a location that is there; one made beside it would be its second."""
    shop.psql(f"{LINKED} INSERT INTO places VALUES ('both', 'Both', true, 'shop', '{{}}')")
    link(shop, "both", 1)
    with shop.engine.connect() as application, ThreadPoolExecutor(1) as pool:
        application.exec_driver_sql("INSERT INTO place_owners VALUES ('x', 'both', 2, now())")
        step = pool.submit(stage.locations, shop, linked())
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE relation = 'place_owners'::regclass "
            "AND mode = 'ShareRowExclusiveLock' AND NOT granted"
        )
        deadline = time.monotonic() + 60
        while shop.psql(waiting) == "0" and not step.done() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not step.done()
        application.commit()
        assert step.result(60) is not None
    assert [line.partition("|")[0] for line in places(shop)] == ["both", "store_3"]


def test_two_defaults_and_one_of_nobody_are_refused_whatever_links_them(shop: Database) -> None:
    shop.psql(
        f"{LINKED} INSERT INTO places VALUES ('one', '1', true, 'shop', '{{}}'), "
        "('two', '2', true, 'shop', '{}'), ('lost', '3', true, 'shop', '{}'), "
        "('odd', '4', true, 'shop', '{}')"
    )
    for place, owner in (("one", 1), ("two", 1), ("odd", 77)):
        link(shop, place, owner)
    link(shop, "lost", 2, dead=True)
    with pytest.raises(DefaultLocationWrong) as caught:
        stage.locations(shop, linked())
    assert caught.value.companies == [
        "company 1 (Company 1): 2 default locations",
        "default location lost: no company at all",
        "default location odd: no company 77",
    ]


def test_a_rollback_keeps_what_others_linked_or_changed(shop: Database) -> None:
    shop.psql(
        f"{LINKED} INSERT INTO companies SELECT n, 'Company ' || n FROM generate_series(4, 6) n"
    )
    stage.migrate(shop, linked())
    link(shop, "store_2", 1)
    shop.psql(
        "UPDATE place_owners SET note = 'changed' WHERE place = 'store_3';"
        "UPDATE place_owners SET deleted_at = now() WHERE place = 'store_4';"
        "DELETE FROM place_owners WHERE place = 'store_5'"
    )
    kept = foretell(shop, linked())["locations_kept"]
    assert [(found["location_key"], found["referred_by"]) for found in kept] == [
        (f"store_{number}", ["place_owners.place"]) for number in (2, 3, 4)
    ]
    undo(shop, linked())
    assert [line.partition("|")[0] for line in places(shop)] == ["store_2", "store_3", "store_4"]
    assert shop.psql("SELECT place, owner, note, deleted_at IS NULL FROM place_owners "
                     "ORDER BY 1, 2") == (
        "store_2|1|theirs|t\nstore_2|2|of Company 2|t\nstore_3|3|changed|t\n"
        "store_4|4|of Company 4|f"
    )  # fmt: skip


def test_a_location_whose_link_a_trigger_turns_elsewhere_is_not_created(shop: Database) -> None:
    shop.psql(
        f"{LINKED} CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.owner := 1; RETURN NEW; END $$;"
        "CREATE TRIGGER steal BEFORE INSERT ON place_owners FOR EACH ROW EXECUTE FUNCTION steal()"
    )
    with pytest.raises(DefaultLocationWrong) as caught:
        stage.locations(shop, linked())
    assert caught.value.companies == ["company 2 (Company 2)", "company 3 (Company 3)"]
    assert (places(shop), shop.psql(OWNERS)) == ([], "")


def test_links_of_new_locations_are_no_change_of_the_applications_references(
    shop: Database,
) -> None:
    shop.psql(
        f"{LINKED} ALTER TABLE place_owners ADD FOREIGN KEY (place) REFERENCES places, "
        "ADD FOREIGN KEY (owner) REFERENCES companies"
    )
    assert stage.migrate(shop, linked()).proof.passed
    named = "SELECT count(*) FROM inventory_migration.reference WHERE name ~ 'place_owners'"
    assert shop.psql(named) == "0"
    undo(shop, linked())
    assert (places(shop), shop.psql(OWNERS)) == ([], "")


def test_levels_follow_the_default_location_that_a_link_gives(shop: Database) -> None:
    """The trigger that keeps them in step finds it through the same table."""
    shop.psql(
        f"{LINKED} CREATE TABLE levels (item bigint, place text, on_hand int NOT NULL, "
        "PRIMARY KEY (item, place))"
    )
    asked = mapping(
        locations=linked().locations,
        target={"shape": "stock_level", "table": "levels", "record": {"item": "id"},
                "location": "place", "on_hand": "on_hand", "sync": True},
    )  # fmt: skip
    stage.locations(shop, asked)
    shop.psql(
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES (2, 'new', 5);"
        "UPDATE stock_items SET quantity = 70 WHERE id = 1"
    )
    assert shop.psql("SELECT * FROM levels ORDER BY 1") == "1|store_1|70\n13|store_2|5"
    stage.transform(shop, asked)
    assert stage.close(shop, asked).proof.passed
    assert shop.psql("SELECT count(*), sum(on_hand) FROM levels") == "13|152"
    undo(shop, asked)
    assert (places(shop), shop.psql("SELECT count(*) FROM levels")) == ([], "0")


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
    assert stage.migrate(worked, asked).proof.passed


def test_a_worker_with_the_printed_grants_makes_links_and_takes_them_away(
    worked: WorkedDatabase,
) -> None:
    stage.shop(worked, items=6)
    worked.psql(
        f"{PLACES} {LINKED} ALTER TABLE place_owners DROP id, ADD id serial PRIMARY KEY;"
        "ALTER TABLE places DROP id, ADD id uuid PRIMARY KEY;"
        "ALTER TABLE place_owners ALTER place TYPE uuid USING NULL;"
        "CREATE TABLE hidden AS SELECT 'dead' AS reason; CREATE TABLE days AS SELECT now() AS day"
    )
    create = {"title": "Main", "kind": "store", "metadata": "{}"}
    values = {"since": {"sql": "SELECT min(day) FROM days"}, "note": "x"}
    living = {"sql": "o.note NOT IN (SELECT reason FROM hidden)"}
    asked = linked({"values": values, "where": living}, create=create)
    worked.hand_over(asked)
    assert stage.migrate(worked, asked).proof.passed
    assert worked.psql("SELECT count(*) FROM place_owners JOIN places p ON p.id = place") == "3"
    undo(worked, asked)
    assert (places(worked), worked.psql(OWNERS)) == ([], "")


# ruff: noqa: E501
WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"company": {"sql": "l.tenant"}},
        "company: the server refuses it: column l.tenant does not exist",
    ),
    (
        {"company": {"sql": "l.metadata"}},
        "company: is jsonb and cannot be compared with company.key, bigint",
    ),
    (
        {"company": {"sql": "1) AS owner FROM places; DROP TABLE places; --"}},
        'company: the server refuses it: syntax error at or near ";"',
    ),
    (
        {"create": {"id": "x", "title": "x", "kind": None}},
        "create: column metadata of places needs a value and has no default; add it to create",
    ),
]  # fmt: skip


WRONG_LINK: list[tuple[dict[str, Any], str]] = [
    ({"table": "place_owner"}, "table: there is no table place_owner; did you mean place_owners?"),
    ({"location": "plaice"}, "location: table place_owners has no column plaice; did you mean place?"),
    ({"location": "owner", "company": "place"}, "location: is bigint and cannot be compared with locations.key, text"),
    ({"location": "id", "values": {}}, "values: column place of place_owners needs a value and has no default; add it"),
    ({"location": "note", "values": {}}, "location: each record would read all of place_owners: create an index on (note)"),
    ({"company": "ownr"}, "company: table place_owners has no column ownr; did you mean owner?"),
    ({"company": "since", "values": {}}, "company: is timestamp with time zone and cannot be compared with company.key, bigint"),
    ({"where": {"sql": "o.dead"}}, "where: the server refuses it: column o.dead does not exist"),
    ({"values": {"id": {"generate": "uuid"}}}, "values: column since of place_owners needs a value and has no default; add it"),
    ({"values": {**THROUGH["values"], "snce": 1}}, "values.snce: table place_owners has no column snce; did you mean since?"),
    ({"values": {**THROUGH["values"], "since": {"sql": "c.name"}}},
     'values.since: the server refuses it: column "since" is of type timestamp with time zone but expression is of type text'),
]  # fmt: skip


@pytest.fixture(scope="module")
def standing(server: EmbeddedServer) -> Iterator[Database]:
    """A shop that nothing is written to."""
    with made_database(server) as made:
        stage.shop(made, items=3)
        made.psql(PLACES + LINKED)
        yield made


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        *((located(**change), f"locations.{said}") for change, said in WRONG),
        *((linked(change), f"locations.company.through.{said}") for change, said in WRONG_LINK),
    ],
)
def test_what_is_wrong_with_whose_a_location_is_is_said_before_anything_is_written(
    standing: Database, asked: StockMapping, said: str
) -> None:
    with pytest.raises(MappingInvalid) as caught:
        plan.read_mapping(standing.engine, asked)
    assert f"shop: {said}" in caught.value.problems


@pytest.mark.parametrize(
    ("company", "said"),
    [
        ("[id]", "locations.company: should be a column, {sql: ...} or {through: ...}"),
        ("{through: {table: t, location: l}}", "locations.company.through.company: missing"),
        (
            "{through: {table: t, location: l, company: c}, sql: x}",
            "locations.company.sql: unknown key",
        ),
        (
            "{through: {table: t, location: l, company: l, values: {l: 1}}}",
            "locations.company.through: l is given twice; location, company and each of values are columns of their own",
        ),
        (
            "{through: {table: t, location: l, company: c, values: {d: 1}}}",
            "locations: company.through.values are of the links of locations that are created: say create, or take them out",
        ),
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
