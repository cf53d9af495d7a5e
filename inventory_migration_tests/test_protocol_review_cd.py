"""The protocol under attack, C and D: the guard trigger, privileges, and whose rights are used.

The same situation for the naive form and for ours; see `test_protocol_review_a.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.engine import schema_change
from inventory_migration.errors import LockNotObtained, MappingInvalid, SuperuserRefused
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import blocked, one, repeatable, until, waiters
from inventory_migration_tests.test_control import during
from inventory_migration_tests.test_statements import printed

GUARDED = stage.mapping(guard=True)
INSERT = "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'new', 1)"
GIVEN = f"{INSERT} RETURNING location_id"


def naive_guard(database: Database, body: str, options: str = "") -> None:
    """A trigger as one would write it at first; ours is taken off."""
    database.psql(
        f"""
        DROP FUNCTION IF EXISTS inventory_migration.guard_shop CASCADE;
        CREATE OR REPLACE FUNCTION naive() RETURNS trigger LANGUAGE plpgsql {options} AS
            $$ BEGIN {body} END $$;
        CREATE OR REPLACE TRIGGER naive BEFORE INSERT ON stock_items
            FOR EACH ROW EXECUTE FUNCTION naive();
        """
    )


def from_ledger(handler: str = "") -> str:
    return f"""
        SELECT location_key INTO NEW.location_id FROM inventory_migration.company_location
         WHERE company_key = NEW.company_id::text;
        RETURN NEW; {handler}"""


FROM_LOCATIONS = """
    SELECT id INTO NEW.location_id FROM locations WHERE company_id = NEW.company_id;
    RETURN NEW;"""
WHEN_OTHERS = "EXCEPTION WHEN OTHERS THEN RETURN NEW;"


@contextmanager
def role(database: Database, name: str, grants: str = "") -> Iterator[psycopg.Connection]:
    """A session of a role that owns nothing and may do what it is granted."""
    named = f"{name}_{database.name}"
    database.psql(f"CREATE ROLE {named} LOGIN; {grants.format(role=named)}")
    url = database.url.replace("postgres@", f"{named}@")
    try:
        with psycopg.connect(url, autocommit=True) as session:
            yield session
    finally:
        database.psql(f"DROP OWNED BY {named} CASCADE; DROP ROLE {named}")


APPLICATION = "GRANT SELECT, INSERT, UPDATE ON stock_items TO {role}"


def test_c_a_trigger_that_waits_behind_an_open_writer_lets_others_write_meanwhile(
    database: Database,
) -> None:
    stage.shop(database)
    # It is there already, so that nothing but the trigger has to wait.
    database.psql("ALTER TABLE stock_items ADD COLUMN location_id bigint")
    chosen = stage.mapping(guard=True, target={"shape": "location_column", "column": "location_id"})
    create = (
        "CREATE FUNCTION naive() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER naive BEFORE INSERT ON stock_items FOR EACH ROW EXECUTE FUNCTION naive()"
    )

    def naive() -> None:
        with psycopg.connect(database.url) as session:
            session.execute(create)
            session.rollback()

    with psycopg.connect(database.url) as writer, psycopg.connect(database.url) as other:
        writer.execute(INSERT)
        with blocked(database, naive):
            # Everybody who wants to write queues up behind it, for as long as the first is open.
            other.execute("SET lock_timeout = '400ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(INSERT)
            other.rollback()
            other.execute("SELECT count(*) FROM stock_items")
            writer.rollback()
        writer.execute(INSERT)
        other.rollback()
        other.execute("SET lock_timeout = '2s'")
        with during(lambda: stage.locations(database, chosen)) as step:
            until(lambda: waiters(database), "the trigger at its lock")
            for _ in range(5):
                other.execute(INSERT)
                other.commit()
            assert step.is_alive()
            writer.commit()
    assert database.psql(GIVEN) == "1"


def test_c_the_applications_own_rights_do_not_suffice_for_a_trigger(database: Database) -> None:
    stage.shop(database)
    stage.locations(database, GUARDED)
    with role(database, "app", APPLICATION) as application:
        assert one(application, GIVEN) == 1
        naive_guard(database, from_ledger())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(INSERT)
        # Caught, and then nobody is ever given a location, without a word.
        naive_guard(database, from_ledger(WHEN_OTHERS))
        assert one(application, GIVEN) is None


def test_c_a_location_that_is_deleted_at_that_moment_is_still_refused_by_its_foreign_key(
    database: Database,
) -> None:
    """The one error left: the words do not promise more."""
    stage.shop(database)
    stage.locations(database, GUARDED)
    database.psql("ALTER TABLE stock_items ADD FOREIGN KEY (location_id) REFERENCES locations")
    with psycopg.connect(database.url) as owner, psycopg.connect(database.url) as application:
        owner.execute("DELETE FROM locations WHERE company_id = 1")

        def insert() -> None:
            with pytest.raises(psycopg.errors.ForeignKeyViolation):
                application.execute(INSERT)
            application.rollback()

        with blocked(database, insert):
            owner.commit()
        # Once it is gone, a trigger that reads the ledger goes on giving it.
        assert one(application, GIVEN) is None
        application.rollback()
        naive_guard(database, from_ledger(WHEN_OTHERS), "SECURITY DEFINER")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            application.execute(INSERT)


@pytest.mark.parametrize(
    ("table", "given"), [("inventory_migration.company_location", 1), ("locations", None)]
)
def test_c_a_table_that_is_locked_for_a_change_costs_no_statement_of_the_application(
    database: Database, table: str, given: int | None
) -> None:
    stage.shop(database)
    stage.locations(database, GUARDED)
    with psycopg.connect(database.url) as change, psycopg.connect(database.url) as application:
        change.execute(f"LOCK TABLE {table}")
        application.execute("SET statement_timeout = '5s'")
        assert one(application, GIVEN) == given
        application.rollback()
        change.rollback()
        body = from_ledger(WHEN_OTHERS) if given else f"{FROM_LOCATIONS} {WHEN_OTHERS}"
        naive_guard(database, body)
        change.execute(f"LOCK TABLE {table}")
        application.execute("SET statement_timeout = '300ms'")
        # A cancel is not caught by OTHERS.
        with pytest.raises(psycopg.errors.QueryCanceled):
            application.execute(INSERT)


def test_c_what_the_trigger_cannot_know_is_the_sweeps(database: Database) -> None:
    """An older REPEATABLE READ session, a company of since the plan, and triggers switched off."""
    stage.shop(database, items=6)
    insert = "INSERT INTO stock_items (company_id, sku, quantity) VALUES ({}, '{}', 1)"
    with repeatable(database) as old:
        stage.locations(database, GUARDED)
        database.psql("INSERT INTO companies (name) VALUES ('Newcomer')")
        database.psql(insert.format(4, "newcomer"))
        database.psql(f"SET session_replication_role = replica; {insert.format(2, 'replica')}")
        stage.transform(database, GUARDED)
        old.execute("INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'old', 1)")
    missing = "SELECT sku FROM stock_items WHERE location_id IS NULL ORDER BY sku"
    database.psql(insert.format(4, "newer"))
    assert database.psql(missing) == "newcomer\nnewer\nold"
    assert database.psql("SELECT count(*) FROM locations") == "3"
    stage.pass_gate(database.engine, GUARDED, "transformed_stock")
    assert stage.close(database, GUARDED).proof.passed
    assert database.psql(missing) == ""
    assert database.psql("SELECT count(*) FROM locations") == "4"
    assert database.psql(f"{insert.format(4, 'newest')} RETURNING location_id") == "4"


def test_c_its_handler_takes_no_transaction_of_its_own(database: Database) -> None:
    """One that writes needs an id for each row, which is what makes a handler dear."""
    stage.shop(database)
    stage.locations(database, GUARDED)
    many = (
        "INSERT INTO stock_items (company_id, sku, quantity) "
        "SELECT 1, 'many', 1 FROM generate_series(1, 200)"
    )

    def ids() -> int:
        with psycopg.connect(database.url, autocommit=True) as session:
            first = one(session, "SELECT pg_current_xact_id()::text::bigint")
            session.execute(many)
            return int(one(session, "SELECT pg_current_xact_id()::text::bigint")) - int(first)

    assert ids() < 100
    database.psql("CREATE TABLE log (id bigint)")
    naive_guard(
        database,
        f"INSERT INTO log VALUES (NEW.id); {FROM_LOCATIONS} {WHEN_OTHERS}",
        "SECURITY DEFINER",
    )
    assert ids() >= 200


def test_d_to_lock_and_write_a_record_an_update_of_its_location_suffices(
    database: Database,
) -> None:
    stage.shop(database)
    stage.locations(database)
    lock = "SELECT FROM stock_items WHERE id = 1 FOR NO KEY UPDATE"
    with role(database, "worker", "GRANT SELECT ON stock_items TO {role}") as worker:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(lock)
        database.psql(f"GRANT UPDATE (location_id) ON stock_items TO {worker.info.user}")
        worker.execute(lock)
        update = "UPDATE stock_items SET location_id = 1 WHERE id = 1 RETURNING quantity"
        assert one(worker, update) == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("BEGIN; LOCK TABLE stock_items IN SHARE MODE")
        worker.rollback()
    grants = printed(database, stage.MAPPING, "w").grants
    assert [g for g in grants if "UPDATE" in g and "stock_items" in g] == [
        'GRANT SELECT, UPDATE ("location_id") ON "public"."stock_items" TO "w"'
    ]


def test_d_a_second_creator_of_locations_is_kept_out_with_or_without_a_lock(
    database: Database,
) -> None:
    stage.shop(database)
    schema_change.execute_briefly(database.engine, owner_steps(database), what="add locations")
    lock = "BEGIN; LOCK TABLE locations IN SHARE ROW EXCLUSIVE MODE"
    create = "INSERT INTO locations (company_id, is_default) VALUES (1, true)"
    grant = "GRANT SELECT, INSERT ON locations TO {role}"
    with role(database, "worker", grant) as worker, psycopg.connect(database.url) as application:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute(lock)
        worker.rollback()
        database.psql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {worker.info.user}")
        application.execute(create)

        def second() -> None:
            with pytest.raises(psycopg.errors.UniqueViolation):
                worker.execute(create)

        # What the table that we add has instead: an index that lets a company have one.
        with blocked(database, second):
            application.commit()
    assert database.psql("SELECT count(*) FROM locations WHERE company_id = 1") == "1"
    assert stage.locations(database) is not None
    assert database.psql("SELECT count(*) FROM locations WHERE is_default") == "3"


def owner_steps(database: Database) -> list[str]:
    return printed(database, stage.MAPPING, "w").owner


def test_d_owner_steps_need_the_owner_and_the_trigger_can_be_taken_off_without_him(
    database: Database,
) -> None:
    stage.shop(database)
    grant = (
        "GRANT USAGE, CREATE ON SCHEMA public TO {role};"
        "GRANT SELECT, TRIGGER ON stock_items TO {role}"
    )
    body = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    with role(database, "worker", grant) as worker:
        for statement in owner_steps(database)[-1:]:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                worker.execute(statement)
        worker.execute(f"CREATE FUNCTION mine() {body}")
        worker.execute(
            "CREATE TRIGGER mine BEFORE INSERT ON stock_items FOR EACH ROW EXECUTE FUNCTION mine()"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("DROP TRIGGER mine ON stock_items")
        worker.execute("DROP FUNCTION mine CASCADE")
    user = f"guard_{database.name}"
    database.psql(printed(database, GUARDED, user).script())
    target = verbs.open_target(database.url.replace("postgres@", f"{user}@"))
    try:
        assert verbs.run(target, GUARDED)["state"] == "verified"
        assert database.psql(GIVEN) == "1"
        assert verbs.roll_back(target, GUARDED)["state"] == "rolled_back"
        assert database.psql(GIVEN) == ""
    finally:
        database.psql(f"DROP OWNED BY {user} CASCADE; DROP ROLE {user}")


def test_d_rows_that_a_policy_hides_are_not_overlooked(database: Database) -> None:
    stage.shop(database)
    database.psql("ALTER TABLE stock_items ENABLE ROW LEVEL SECURITY")
    grant = "GRANT SELECT, UPDATE ON stock_items, companies TO {role}"
    with role(database, "worker", grant) as worker:
        # Nothing to do, one would say.
        assert one(worker, "SELECT count(*) FROM stock_items") == 0
        worker.execute("SET row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("SELECT count(*) FROM stock_items")
        url = database.url.replace("postgres@", f"{worker.info.user}@")
        with pytest.raises(MappingInvalid, match="row level security hides rows of stock_items"):
            verbs.test(verbs.open_target(url), stage.MAPPING)


def test_d_no_view_of_ours_shows_the_application_what_a_policy_hides(database: Database) -> None:
    stage.shop(database)
    database.psql(
        "ALTER TABLE stock_items ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON stock_items USING (company_id = 1);"
        "CREATE VIEW naive AS SELECT * FROM stock_items"
    )
    stage.migrate(database)
    grant = "GRANT SELECT ON stock_items, naive TO {role}"
    with role(database, "app", grant) as application:
        assert one(application, "SELECT count(*) FROM stock_items") == 10
        assert one(application, "SELECT count(*) FROM naive") == 30
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute("SELECT count(*) FROM inventory_migration.shop_record_status")
    assert (
        database.psql(
            "SELECT count(*) FROM pg_class, aclexplode(relacl) AS a "
            "WHERE relnamespace = 'inventory_migration'::regnamespace AND a.grantee = 0"
        )
        == "0"
    )


DECEIVE = (
    "CREATE TEMP TABLE locations AS SELECT 666 AS id, 1 AS company_id, true AS is_default;"
    "CREATE TEMP TABLE companies AS SELECT 1 AS id, 'x' AS name"
)


@pytest.mark.parametrize("path", ["", "SET search_path = public"])
def test_d_a_temporary_table_steers_a_trigger_that_has_no_path_of_its_own(
    database: Database, path: str
) -> None:
    stage.shop(database)
    stage.locations(database, GUARDED)
    grant = f"{APPLICATION}; GRANT TEMP ON DATABASE {database.name} TO {{role}}"
    with role(database, "app", grant) as application:
        application.execute(DECEIVE)
        assert one(application, GIVEN) == 1
        naive_guard(database, FROM_LOCATIONS, f"SECURITY DEFINER {path}")
        assert one(application, GIVEN) == 666


def test_d_keys_of_an_extension_are_compared_as_it_compares_them(database: Database) -> None:
    """Pinned to pg_catalog alone, 'acme' and 'ACME' are two companies."""
    if database.psql("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'") == "0":
        pytest.skip("this server has no citext: apt-get install postgresql-contrib")
    stage.shop(database, items=0)
    database.psql(
        "CREATE EXTENSION citext; DROP TABLE companies;"
        "CREATE TABLE companies (id citext PRIMARY KEY, name text NOT NULL);"
        "INSERT INTO companies VALUES ('ACME', 'Acme');"
        "ALTER TABLE stock_items ALTER company_id TYPE citext"
    )
    stage.locations(database, GUARDED)
    insert = (
        "INSERT INTO stock_items (company_id, sku, quantity) VALUES ('acme', 'new', 1) "
        "RETURNING location_id"
    )
    assert database.psql(insert) == "1"
    naive_guard(
        database,
        FROM_LOCATIONS.replace("locations", "public.locations"),
        "SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
    )
    assert database.psql(insert) == ""


def test_d_a_superusers_write_runs_the_applications_trigger_as_superuser(
    database: Database,
) -> None:
    stage.shop(database)
    made = f"made_{database.name}"
    with role(database, "app", "GRANT CREATE ON SCHEMA public TO {role}") as application:
        database.psql(f"GRANT TRIGGER ON stock_items TO {application.info.user}")
        application.execute(
            f"CREATE FUNCTION grab() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"CREATE ROLE {made} SUPERUSER; RETURN NEW; END $$"
        )
        application.execute(
            "CREATE TRIGGER grab BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION grab()"
        )
        with psycopg.connect(database.url) as naive:
            naive.execute("UPDATE stock_items SET quantity = quantity WHERE id = 1")
            assert one(naive, f"SELECT rolsuper FROM pg_roles WHERE rolname = '{made}'") is True
            naive.rollback()
        with pytest.raises(SuperuserRefused, match="grab would run as superuser"):
            stage.locations(database)
    assert database.psql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{made}'") == "0"


def test_c_an_owner_step_gives_up_rather_than_holding_everybody_up(database: Database) -> None:
    stage.shop(database)
    with database.engine.connect() as reader:
        reader.execute(sa.text("SELECT count(*) FROM stock_items"))
        with pytest.raises(LockNotObtained):
            schema_change.execute_briefly(
                database.engine, owner_steps(database)[-1:], what="add a column", seconds=0.5
            )
