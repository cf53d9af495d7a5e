"""What must still work after the move is tried, leaves nothing, and each planted fault is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import sqlalchemy as sa
import yaml

from inventory_migration import acceptance, verbs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import trail
from inventory_migration.engine.acceptance import operations
from inventory_migration.engine.acceptance.kept import last_acceptance
from inventory_migration.errors import AcceptanceKept, MappingInvalid, NothingToTry
from inventory_migration.mapping import StockMapping, parse_mapping
from inventory_migration.report.facts import collect
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database, made_database
from inventory_migration_tests.test_shapes import FORMS, TARGETS

TABLES = ("companies", "locations", "stock_items", "movements")

# Beside the shop: a trigger that swallows what one item receives, rules that refuse, a procedure
# that would end the transaction, and a function that takes its time.
FAULTS = """
    CREATE TABLE movements (item_id bigint NOT NULL REFERENCES stock_items
                            DEFERRABLE INITIALLY DEFERRED, quantity integer NOT NULL);
    ALTER TABLE stock_items ADD CHECK (quantity >= 0), ADD note text;
    CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.note = 'swallowed' THEN RETURN NULL; END IF; RETURN NEW; END $$;
    CREATE TRIGGER swallow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE PROCEDURE commits() LANGUAGE plpgsql AS
        $$ BEGIN UPDATE stock_items SET quantity = 0; COMMIT; END $$;
    CREATE FUNCTION slowly(s double precision) RETURNS bigint LANGUAGE sql AS
        $$ SELECT 1 FROM pg_sleep(s) $$;
    CREATE FUNCTION takes(record bigint) RETURNS integer LANGUAGE sql AS
        $$ UPDATE stock_items SET quantity = quantity - 1 WHERE id = record RETURNING 1 $$;
"""

UPDATE = "UPDATE stock_items SET quantity = quantity + 5"
RECEIVE = {"sql": f"{UPDATE} WHERE id = :record", "expect": {"on_hand": 5}}
SECOND = (
    "INSERT INTO locations (company_id, name, code, is_default) "
    "VALUES (:company, 'Second', 'SECOND', false) RETURNING id"
)
TRANSFER = {
    "sql": [
        "UPDATE stock_items SET quantity = quantity - 3 WHERE id = :record",
        "INSERT INTO stock_items (company_id, sku, quantity, location_id) "
        "VALUES (:company, :item, 3, :second_location)",
    ],
    "expect": {"moved": 3},
}


@pytest.fixture(scope="module")
def shop(server: EmbeddedServer) -> Iterator[Database]:
    """A shop whose stock was moved, with the faults that operations and queries may run into."""
    with made_database(server) as database:
        stage.shop(database)
        database.psql(FAULTS)
        stage.migrate(database)
        yield database


def accepted(shop: Database, **section: Any) -> dict[str, Any]:
    """Try what a section says, and find that it has left nothing of it."""
    before = [shop.psql(f"SELECT to_jsonb(t) FROM {name} t ORDER BY 1") for name in TABLES]
    found = acceptance.accept(verbs.open_target(shop.url), stage.mapping(acceptance=section))
    after = [shop.psql(f"SELECT to_jsonb(t) FROM {name} t ORDER BY 1") for name in TABLES]
    assert after == before
    return found


def told(found: dict[str, Any]) -> dict[str, str]:
    """The findings by what they are about."""
    return {finding["subject"]: finding["said"] for finding in found["findings"]}


def test_operations_do_what_is_expected_and_leave_nothing_but_an_event(shop: Database) -> None:
    reserve = "UPDATE stock_items SET reserved = reserved {} WHERE id = :record"
    section = {
        "second_location": SECOND,
        "operations": {
            "receive": RECEIVE,
            "reserve": {"sql": reserve.format("+ 2"), "expect": {"reserved": "+2"}},
            "release": {
                "sql": reserve.format("- 2"), "after": "reserve", "expect": {"reserved": -2}
            },
            "transfer": TRANSFER,
            "move_away": {
                "sql": "UPDATE stock_items SET location_id = :second_location WHERE id = :record",
                "expect": {"moved": "all"},
            },
            "count": {"sql": "UPDATE stock_items SET quantity = :on_hand WHERE id = :record"},
            "by_function": {
                "sql": "SELECT takes(:record) WHERE 'a%s' LIKE '%%s'", "expect": {"on_hand": -1}
            },
        },
    }  # fmt: skip
    reader = verbs.open_target(shop.url).reader
    facts = collect(reader, stage.MAPPING)
    assert facts is not None
    assert any("reports still work: 'inventory-mig" in said for said in facts["not_checked"])
    found = accepted(shop, **section)
    assert (found["passed"], found["findings"]) == (True, [])
    # Five units are received, and the first record with so many available is the one.
    assert found["record"] == {
        "key": "6", "company": "3", "item": "SKU-6", "location": "3", "on_hand": "6",
        "reserved": "1", "second_location": found["record"]["second_location"],
        "second_location_made": True,
    }  # fmt: skip
    by_name = {trial["name"]: trial["observed"] for trial in found["operations"]}
    assert by_name["transfer"]["location"]["on_hand"] == "-3"
    assert by_name["move_away"]["second_location"] == {
        "on_hand": "6", "reserved": "1", "available": "5"
    }  # fmt: skip
    with shop.engine.connect() as connection:
        kept = last_acceptance(connection, found["migration_id"])
        assert last_acceptance(connection, 99) is None
        trail_of_it = trail.events(connection, found["migration_id"])[-1]
    assert trail_of_it["detail"] == {
        "passed": True, "operations": "7 of 7 passed", "queries": "4 of 4 passed"
    }  # fmt: skip
    assert kept is not None
    assert kept["passed"]
    # The report tells of it, where it said before that nobody had tried.
    facts = collect(reader, stage.MAPPING)
    assert facts is not None
    assert "were tried beside it at 20" in facts["rests_on"][-1]
    assert "operations 7 of 7 passed, queries 4 of 4 passed." in facts["rests_on"][-1]
    assert not [said for said in facts["not_checked"] if "still work" in said]
    assert kept["who"].startswith("postgres by inventory-migration")
    assert kept["operations"] == found["operations"]
    assert [query["name"] for query in kept["queries"]] == [
        "stock_by_company", "stock_by_item", "available_to_promise", "stock_by_location"
    ]  # fmt: skip
    assert {finding["plans"]["after"]["Plan"]["Node Type"] for finding in found["queries"]}


def test_each_operation_that_does_something_else_is_told_and_the_others_go_on(
    shop: Database,
) -> None:
    note = "UPDATE stock_items SET note = '{}' WHERE id = :record"
    wanted: dict[str, tuple[dict[str, Any], str]] = {
        "too_much": ({**RECEIVE, "expect": {"on_hand": 4}}, "on hand expected 4, observed 5 (tot"),
        "everybody": (
            {**RECEIVE, "sql": f"{UPDATE} WHERE id <= 30"},
            "on hand expected 5, observed 150 (total)",
        ),
        "the_company": (
            {**RECEIVE, "sql": f"{UPDATE} WHERE company_id = :company"},
            "on hand expected 5, observed 50 (total, company)",
        ),
        "another": (
            {**RECEIVE, "sql": f"{UPDATE} WHERE id = :record + 3"},
            "on hand expected 5, observed 0 (item, location)",
        ),
        "swallowed": (
            {
                "sql": "UPDATE stock_items SET quantity = quantity + 5, note = 'swallowed' "
                "WHERE id = :record",
                "expect": {"on_hand": 5},
            },
            "on hand expected 5, observed 0 (total, company, item, location)",
        ),
        "nowhere": ({"sql": note.format(""), "expect": {"moved": 1}}, "observed 0 (second"),
        "lost": (
            {"sql": TRANSFER["sql"][0], "expect": {"moved": 3}},
            "on hand expected 0, observed -3 (total, company, item)",
        ),
        "reserves": (
            {"sql": "UPDATE stock_items SET reserved = reserved + 2 WHERE id = :record"},
            "available expected 0, observed -2 (total, company, item, location)",
        ),
        "refused": (
            {"sql": [note.format("a"), "UPDATE stock_items SET quantity = -1 WHERE id = :record"]},
            "statement 2: new row for relation",
        ),
        "late": (
            {"sql": "INSERT INTO movements VALUES (-1, 1)"},
            "violates foreign key constraint",
        ),
        "no_table": ({"sql": "DELETE FROM nowhere"}, 'relation "nowhere" does not exist'),
        "ends_it": ({"sql": "CALL commits()"}, "invalid transaction termination"),
        "two": ({"sql": "SELECT $im$ $im$, 'a\\'';COMMIT;--'"}, "ok"),
        "receive": (RECEIVE, "ok"),
    }  # fmt: skip
    section = {name: operation for name, (operation, _) in wanted.items()}
    found = accepted(shop, second_location=SECOND, operations=section)
    said = told(found)
    assert not found["passed"]
    assert {trial["name"] for trial in found["operations"] if trial["passed"]} == {"two", "receive"}
    for name, (_, expected) in wanted.items():
        assert expected in said.get(name, "ok"), name
    assert {finding["severity"] for finding in found["findings"]} == {"critical"}
    states = {
        trial["name"]: (trial["error"] or {}).get("sqlstate") for trial in found["operations"]
    }
    assert (states["refused"], states["late"], states["ends_it"]) == ("23514", "23503", "2D000")


def test_the_server_itself_takes_one_statement_only(shop: Database) -> None:
    operation = stage.mapping(acceptance={"operations": {"receive": RECEIVE}})
    # As if the model had let it through: what looks like one to us may be two to the server.
    sql = "UPDATE stock_items SET quantity = 0; COMMIT"
    section = operation.acceptance.model_copy(
        update={
            "operations": {
                "both": operation.acceptance.operations["receive"].model_copy(update={"sql": [sql]})
            }
        }
    )
    asked = operation.model_copy(update={"acceptance": section})
    found = acceptance.accept(verbs.open_target(shop.url), asked)
    assert "cannot insert multiple commands into a prepared statement" in told(found)["both"]
    assert shop.psql("SELECT count(*) FROM stock_items WHERE quantity = 0") == "0"


def test_what_was_not_rolled_back_is_never_taken_for_it(shop: Database) -> None:
    with shop.engine.begin() as connection:
        xid = connection.execute(sa.text("SELECT pg_current_xact_id()::text")).scalar_one()
    with pytest.raises(AcceptanceKept, match="is committed, and should be rolled back"):
        operations.require_nothing_kept(shop.engine, "shop", xid)


def test_who_holds_the_record_is_waited_for_briefly_and_what_others_do_is_not_counted(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "LOCK_TIMEOUT", "20ms")
    with psycopg.connect(shop.url) as other:
        other.execute("UPDATE stock_items SET note = 'mine'")
        found = accepted(shop, operations={"receive": RECEIVE})
        assert told(found) == {"receive": "statement 1: canceling statement due to lock timeout"}
        other.rollback()
    # Beside an application that sells all the time, at the very moment between two looks.
    real = operations._execute

    def beside(*given: Any) -> Any:
        with psycopg.connect(shop.url) as other:
            other.execute("UPDATE stock_items SET quantity = quantity + 1 WHERE id = 1")
        return real(*given)

    monkeypatch.setattr(operations, "_execute", beside)
    section = {"operations": {"receive": RECEIVE}}
    asked = stage.mapping(acceptance=section)
    assert acceptance.accept(verbs.open_target(shop.url), asked)["passed"]


def test_operations_have_the_rights_of_the_role_that_is_named(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.url)
    role = f"app of {os.getpid()}"
    section = {"role": role, "operations": {"receive": RECEIVE}}
    path = mapping_file(tmp_path, acceptance=section)
    refused = sentence(im("acceptance", "--mapping", path, "--yes", code=2))
    assert f"cannot be executed as {role}: there is no such role" in refused
    shop.psql(f"""
        CREATE ROLE "{role}";
        GRANT SELECT ON stock_items TO "{role}";
        ALTER TABLE stock_items ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON stock_items
            USING (company_id = NULLIF(current_setting('app.company', true), '')::bigint);
    """)
    try:
        assert told(accepted(shop, **section)) == {
            "receive": "statement 1: permission denied for table stock_items"
        }
        shop.psql(f'GRANT UPDATE (quantity) ON stock_items TO "{role}"')
        # The totals are everybody's, what the application sees is its policies'.
        of_company = ["SELECT set_config('app.company', :company::text, true)", RECEIVE["sql"]]
        of_other = ["SELECT set_config('app.company', '1', true)", RECEIVE["sql"]]
        operations = {
            "own": {**RECEIVE, "sql": of_company}, "other": {**RECEIVE, "sql": of_other}
        }  # fmt: skip
        found = accepted(shop, role=role, operations=operations)
        assert "on hand expected 5, observed 0 (total" in told(found)["other"]
        assert told(found).keys() == {"other"}
        # A role that the connection itself asks for is the one that comes back.
        shop.psql(f'ALTER ROLE "{role}" SUPERUSER')
        options = quote(f"-c role={role}".replace(" of ", "\\ of\\ "))
        asked = stage.mapping(
            acceptance={
                "operations": {"who": {"sql": f"SELECT 1 / (current_user = '{role}')::int"}}
            }
        )
        target = verbs.open_target(f"{shop.url}&options={options}")
        assert acceptance.accept(target, asked)["passed"]
    finally:
        shop.psql(f"""
            DROP POLICY own ON stock_items; ALTER TABLE stock_items DISABLE ROW LEVEL SECURITY;
            DROP OWNED BY "{role}"; DROP ROLE "{role}";
        """)


def test_without_enough_stock_or_a_second_location_it_is_said(shop: Database) -> None:
    huge = {"sql": RECEIVE["sql"], "expect": {"on_hand": 500}}
    with pytest.raises(NothingToTry, match=r"no migrated record .* has 500 available"):
        accepted(shop, operations={"receive": huge})
    found = accepted(shop, operations={"transfer": TRANSFER, "receive": RECEIVE})
    assert told(found) == {
        "transfer": "company 3 has no second location; say in acceptance.second_location how one "
        "is made"
    }
    for second, why in (
        (
            SECOND.replace("Second'", "Second', 1"),
            "INSERT has more expressions than target columns",
        ),
        (SECOND.partition(" RETURNING")[0], "returns no key; end it with RETURNING"),
    ):
        found = accepted(shop, second_location=second, operations={"transfer": TRANSFER})
        assert why in told(found)["transfer"]


def test_queries_give_the_same_answers_or_it_is_told_which_rows_differ(shop: Database) -> None:
    by_item = "SELECT company_id, sku, quantity FROM stock_items"
    found = accepted(
        shop,
        slower_by_ms=20,
        queries={
            "same": {"old": by_item, "new": f"{by_item} -- whatever\n;"},
            "less": {"old": by_item, "new": f"{by_item} WHERE id <> 7"},
            "twice": {"old": by_item, "new": f"{by_item} UNION ALL {by_item} WHERE id = 7"},
            "wider": {"old": by_item, "new": "SELECT 1"},
            "broken": {"new": "SELECT nothing FROM nowhere"},
            "writing": {"new": "SELECT takes(1)"},
            "alone": {"new": "TABLE stock_items"},
            "slower": {"old": "SELECT 1::bigint", "new": "SELECT slowly(0.03)"},
            "faster": {"old": "SELECT slowly(0.03)", "new": "SELECT 1::bigint"},
        },
    )
    assert told(found) == {
        "less": "1 of 30 rows are no longer there, 0 of 29 are new",
        "twice": "0 of 30 rows are no longer there, 1 of 31 are new",
        "wider": "each EXCEPT query must have the same number of columns",
        "broken": 'relation "nowhere" does not exist',
        "writing": "cannot execute UPDATE in a read-only transaction",
        "slower": told(found)["slower"],
    }
    assert "more than 2 times as long" in told(found)["slower"]
    by_name = {query["name"]: query for query in found["queries"]}
    row = {"sku": "SKU-7", "quantity": 7, "company_id": 1}
    assert by_name["less"]["sample"] == {"before": [row]}
    assert by_name["twice"]["sample"] == {"after": [row]}
    assert (by_name["alone"]["rows"], by_name["alone"]["milliseconds"]["before"]) == (None, None)
    assert by_name["slower"]["plans"]["after"]["Execution Time"] >= 30
    kinds = {finding["subject"]: finding["severity"] for finding in found["findings"]}
    assert (kinds["slower"], kinds["less"]) == ("warning", "critical")


@pytest.mark.parametrize(
    ("fault", "differ"),
    [
        (
            "UPDATE stock_items SET location_id = (SELECT id FROM locations WHERE company_id = 2) "
            "WHERE id = 1",
            {"stock_by_location"},
        ),
        ("UPDATE stock_items SET location_id = 99 WHERE id = 1", {"stock_by_location"}),
        (
            "UPDATE stock_items SET location_id = NULL WHERE id = 1",
            {"stock_by_company", "stock_by_item", "available_to_promise", "stock_by_location"},
        ),
    ],
)
def test_the_questions_of_every_mapping_tell_what_lies_wrong(
    shop: Database, fault: str, differ: set[str]
) -> None:
    undo = "UPDATE stock_items SET location_id = 1 WHERE id = 1"
    shop.psql(fault)
    try:
        found = accepted(shop, queries={"one": {"new": "SELECT 1"}})
    finally:
        shop.psql(undo)
    assert told(found).keys() == differ


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("shape", "basis"),
    [
        ("allocation_json", "net"),
        ("allocation_list", "gross"),
        ("stock_level", "net"),
        ("alone", "gross"),
    ],
)
def test_every_shape_answers_as_before_and_tells_what_was_lost(
    database: Database, shape: str, basis: str
) -> None:
    targets = TARGETS | FORMS
    targets["stock_level"] = {**targets["stock_level"], "record": {"item_id": "id"}}
    # What is reserved stands in the record alone.
    targets["alone"] = {**{k: v for k, v in targets["stock_level"].items() if k != "reserved"}}
    stage.shop(database)
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 4")
    asked = stage.mapping(
        target=targets[shape],
        quantity_basis=basis,
        acceptance={"queries": {"one": {"new": "SELECT 1"}}},
    )
    stage.migrate(database, asked)
    target = verbs.open_target(database.url)
    found = acceptance.accept(target, asked)
    assert (found["passed"], found["findings"]) == (True, [])
    assert [query["rows"]["after"] for query in found["queries"][:4]] == [3, 29, 29, 3]
    lost = {
        "allocation_json": "UPDATE stock_items SET allocations = jsonb_set(allocations, "
        "'{1,allocated}', '1') WHERE id = 7",
        "allocation_list": "UPDATE stock_items SET allocations = jsonb_set(allocations, "
        "'{0,qty}', '\"1\"') WHERE id = 7",
    }.get(shape, "DELETE FROM stock_levels WHERE item_id = 7")
    database.psql(lost)
    found = acceptance.accept(target, asked)
    assert told(found).keys() == {
        "stock_by_company", "stock_by_item", "available_to_promise", "stock_by_location"
    }  # fmt: skip
    if asked.needs_write_stop:
        # What the application writes itself from the cut-over on is no difference.
        numbers = "on_hand" if shape == "alone" else "on_hand, reserved"
        given = "0" if shape == "alone" else "0, 0"
        database.psql(
            f"INSERT INTO stock_levels (item_id, location_id, level_id, {numbers}) "
            f"VALUES (7, 1, 'theirs', {given})"
        )
        assert acceptance.accept(target, asked)["passed"]


def test_mistakes_are_told_where_the_mapping_is_read() -> None:
    def problems(**section: Any) -> str:
        text = yaml.safe_dump({**stage.DEFINITION, "acceptance": section})
        with pytest.raises(MappingInvalid) as refused:
            parse_mapping(text, "shop.yaml")
        return str(refused.value)

    def of(sql: str) -> str:
        return problems(operations={"receive": {"sql": sql}})

    for sql in ("COMMIT", "/* x */ rollback", "SET ROLE x", "-- x\nBEGIN", ""):
        assert "a statement begins with SELECT, INSERT" in of(sql)
    assert "give one statement each" in of("UPDATE a SET b = ';' ; COMMIT")
    assert "no parameter :recrd; did you mean record?" in of("UPDATE a SET b = 1 WHERE c = :recrd")
    assert "there is company, record, item, on_hand, reserved" in of("SELECT :z")
    assert "no parameter :record" in problems(second_location="INSERT INTO a SELECT :record")
    assert "no parameter :company; none can be given" in problems(
        queries={"q": {"new": "SELECT :company"}}
    )
    assert "begins with SELECT, WITH" in problems(queries={"q": {"new": "DELETE FROM a"}})
    receive = {"sql": "SELECT 1"}
    assert "after names b, which is no operation" in problems(
        operations={"a": {**receive, "after": "b"}}
    )
    assert "operations.a comes after itself" in problems(
        operations={"a": {**receive, "after": "b"}, "b": {**receive, "after": ["a"]}}
    )
    assert "is no name" in problems(operations={"A b": receive})
    assert "moved" in problems(operations={"a": {**receive, "expect": {"moved": "some"}}})
    # Neither a text, a comment, a cast nor a slice names a parameter.
    fine = "SELECT ':a', \":b\", $x$ :c $x$, E'\\':d', 1::int, (ARRAY[1])[1:2] /* :e */ -- :f"
    StockMapping.model_validate(
        {**stage.DEFINITION, "acceptance": {"operations": {"a": {"sql": fine}}}}
    )


def test_a_section_that_does_not_change_what_moves_leaves_the_hash() -> None:
    assert stage.mapping(acceptance={"operations": {"receive": RECEIVE}}).hash == stage.MAPPING.hash


def test_the_command_asks_first_and_its_exit_code_says_what_came_of_it(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", shop.url)
    bare = mapping_file(tmp_path)
    assert "does not say what is to work after the move" in sentence(
        im("acceptance", "--mapping", bare, code=2)
    )
    slow = {"old": "SELECT 1::bigint", "new": "SELECT slowly(0.02)"}
    section: dict[str, Any] = {"operations": {"receive": RECEIVE}, "slower_by_ms": 5}
    path = mapping_file(tmp_path, acceptance={**section, "queries": {"slow": slow}})
    asked = sentence(im("acceptance", "--mapping", path, code=2))
    assert "this executes 1 operations (receive) on a record of stock_items" in asked
    assert asked.endswith("say --yes")
    words = ("acceptance", "--mapping", path, "--yes")
    assert "All works as expected; everything was rolled back" in im(*words).stdout
    assert [f["kind"] for f in answer(*words)["findings"]] == ["query_slower"]
    im(*words, "--fail-on", "warning", code=3)
    section["operations"]["receive"] = {**RECEIVE, "expect": {"on_hand": 1}}
    path = mapping_file(tmp_path, acceptance=section)
    shown = im("acceptance", "--mapping", path, "--yes", code=3).stdout
    assert "Something does not work as expected" in shown
    found = answer("acceptance", "--mapping", path, "--yes", code=3)
    assert (found["passed"], found["operations"][0]["passed"]) == (False, False)
    # Queries alone write nothing, and so need no word.
    path = mapping_file(tmp_path, acceptance={"queries": {"one": {"new": "SELECT 1"}}})
    im("acceptance", "--mapping", path)
    # Nor lend they a superuser's rights to the application's triggers, as operations do.
    shop.psql("ALTER FUNCTION swallow() OWNER TO pg_database_owner")
    im("acceptance", "--mapping", path)
    path = mapping_file(tmp_path, acceptance={"operations": {"receive": RECEIVE}})
    words = ("acceptance", "--mapping", path, "--yes")
    assert "and swallow would run as superuser" in sentence(im(*words, code=2))
    im(*words, "--as-superuser")
    shop.psql("ALTER FUNCTION swallow() OWNER TO postgres")


@pytest.mark.one_server
def test_only_a_verified_migration_is_asked_and_an_empty_one_has_nothing_to_try(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    stage.shop(database, items=0)
    path = mapping_file(tmp_path, acceptance={"operations": {"receive": RECEIVE}})
    words = ("acceptance", "--mapping", path, "--yes")
    assert "nothing was ever migrated with shop" in sentence(im(*words, code=2))
    stage.locations(database)
    refused = sentence(im(*words, code=2))
    assert "migration 1 of shop is planned" in refused
    assert refused.endswith(f"first 'inventory-migration run --mapping {path}'")
    stage.transform(database)
    stage.close(database)
    found = answer(*words)
    assert (found["passed"], found["record"], found["operations"]) == (True, None, [])
    assert "No operation was tried: no record was moved" in im(*words).stdout


@pytest.mark.one_server
def test_the_shipped_mappings_work_on_the_demo_which_needs_no_word(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inventory_migration.demo import create_demo
    from inventory_migration.engine.plan import Start
    from inventory_migration.mapping import named_mapping

    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    create_demo(database.engine, companies=3, items=60, dirty=0.1)
    for name in ("stock_items", "inventory_batches"):
        stage.migrate(database, named_mapping(name), start=Start(explicit=True))
        found = json.loads(im("acceptance", name, "--json").stdout)
        assert (found["passed"], found["findings"]) == (True, [])
        assert [trial["name"] for trial in found["operations"]] == [
            "receive", "reserve", "release", "pick", "transfer", "count"
        ]  # fmt: skip
