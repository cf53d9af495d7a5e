"""Connections: whatever libpq takes, errors as sentences, and never a password."""

from __future__ import annotations

import traceback

import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.dialects.postgresql.psycopg
from hypothesis import given
from hypothesis import strategies as st

from inventory_migration.database import (
    connection_parameters,
    create_engine,
    describe,
    escaped,
    explain,
    open_database,
    quoted,
    require_supported,
)
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import (
    AuthenticationFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUrlInvalid,
    MigrationError,
    PrivilegeMissing,
    ServerTooOld,
    StatementFailed,
)
from inventory_migration_tests.conftest import SECRET, Database


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cr3t%24pa%3Ass@db.example:6543/shop?sslmode=require",
        "postgres://ann:s3cr3t$pa:ss@db.example:6543/shop?sslmode=require",
        "postgresql+psycopg://ann:s3cr3t$pa:ss@db.example:6543/shop?sslmode=require",
        "postgresql+psycopg2://ann:s3cr3t$pa:ss@db.example:6543/shop?sslmode=require",
        "host=db.example port=6543 dbname=shop user=ann password='s3cr3t$pa:ss' sslmode=require",
    ],
    ids=["url", "short scheme", "psycopg", "psycopg2", "keywords"],
)
def test_every_way_to_write_an_address_gives_the_same_parameters(url: str) -> None:
    assert connection_parameters(url) == {
        "host": "db.example", "port": "6543", "dbname": "shop", "user": "ann",
        "password": SECRET, "sslmode": "require",
    }  # fmt: skip


def test_the_environment_names_the_database_where_no_argument_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", "postgresql://ann@db.example/shop")
    assert connection_parameters()["host"] == "db.example"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:s3cr3t@more@db.example/shop",
        "postgresql://ann:s3cr3t/more@db.example/shop",
        "postgresql://ann:12/s3cr3t@db.example/shop",
        "postgresql://ann:s3cr3t%zz@db.example/shop",
        "postgresql://ann:x@db.example:s3cr3t/shop",
        "host=db.example password s3cr3t",
        "s3cr3t",
        "mysql://ann:s3cr3t@db.example/shop",
    ],
)
def test_a_malformed_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid) as caught:
        connection_parameters(url)
    assert caught.value.exit_code == 2
    assert "s3cr3t" not in _everything(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ann:s3cr3t@db.example/shop", "host db.example:5432, database shop"),
        ("postgresql://a:s3cr3t@h1:1,h2:2/shop", "host h1:1 or host h2:2, database shop"),
        ("postgresql://ann@/shop?host=%2Frun%2Fpg", "socket /run/pg, database shop"),
        ("host=h dbname=shop options='-c search_path=s3cr3t'", "host h:5432, database shop"),
        ("service=main", "service main, host localhost:5432, database ?"),
    ],
)
def test_a_description_has_place_and_database_and_nothing_else(url: str, words: str) -> None:
    described = describe(url)
    assert described.rpartition(",")[0] == words.rpartition(",")[0]
    assert "s3cr3t" not in described
    if "dbname" in connection_parameters(url):
        assert described == words


def test_an_engine_keeps_the_password_out_of_what_is_printed() -> None:
    engine = create_engine(f"host=h user=ann dbname=shop password='{SECRET}'")
    assert SECRET not in repr(engine) + str(engine.url) + describe(engine)


def test_a_transaction_does_not_depend_on_the_defaults_of_role_or_database(
    database: Database,
) -> None:
    database.psql(f"""
        ALTER DATABASE {quoted(database.name)} SET default_transaction_read_only = on;
        ALTER DATABASE {quoted(database.name)} SET default_transaction_isolation = 'serializable';
    """)
    asked = sa.text("""
        SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation')
    """)
    with create_engine(database.url).connect() as connection:
        assert connection.execute(asked).one() == ("off", "read committed")


def test_a_read_only_engine_can_not_write(database: Database) -> None:
    engine = open_database(database.url, read_only=True)
    with engine.connect() as connection, pytest.raises(sa.exc.InternalError, match="read-only"):
        connection.execute(sa.text("CREATE TABLE t (id int)"))


def test_a_connection_carries_the_application_name_unless_the_url_has_one(
    database: Database,
) -> None:
    shown = sa.text("SELECT current_setting('application_name')")
    with create_engine(database.url, application_name="worker 1").connect() as connection:
        assert connection.scalar(shown) == "worker 1"
    with create_engine(database.url + "&application_name=mine").connect() as connection:
        assert connection.scalar(shown) == "mine"


def test_options_of_the_url_reach_the_server(database: Database) -> None:
    engine = open_database(database.url + "&options=-c%20statement_timeout%3D4321")
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "4321ms"


def test_nobody_listening_is_one_sentence() -> None:
    with pytest.raises(DatabaseUnreachable) as caught:
        open_database(f"host=127.0.0.1 port=1 user=ann dbname=shop password='{SECRET}'")
    _one_safe_sentence(caught.value)
    assert "host 127.0.0.1:1, database shop" in str(caught.value)
    assert "onnection refused" in str(caught.value)


def test_a_missing_database_is_named(database: Database) -> None:
    with pytest.raises(DatabaseMissing, match='no database "nowhere"') as caught:
        open_database(database.url.replace(f"/{database.name}?", "/nowhere?"))
    _one_safe_sentence(caught.value)


def _as_ann(server: EmbeddedServer, password: str, database: str = "inventory") -> str:
    return f"host={server.socket_folder} user=ann dbname={database} password='{password}'"


def test_the_right_password_opens_the_database(guarded: EmbeddedServer) -> None:
    with open_database(_as_ann(guarded, SECRET)).connect() as connection:
        assert connection.scalar(sa.text("SELECT current_user")) == "ann"


def test_a_wrong_password_is_one_sentence_without_it(guarded: EmbeddedServer) -> None:
    wrong = SECRET[::-1]
    with pytest.raises(AuthenticationFailed, match='refuses role "ann"') as caught:
        open_database(_as_ann(guarded, wrong))
    _one_safe_sentence(caught.value)
    assert wrong not in _everything(caught.value)


def test_a_missing_password_and_an_unknown_role_are_refusals_too(guarded: EmbeddedServer) -> None:
    for url in (
        f"host={guarded.socket_folder} user=ann dbname=inventory",
        f"host={guarded.socket_folder} user=nobody_at_all dbname=inventory password={SECRET}",
    ):
        with pytest.raises(AuthenticationFailed) as caught:
            open_database(url)
        _one_safe_sentence(caught.value)


def test_a_database_that_the_role_may_not_enter_is_a_missing_privilege(
    guarded: EmbeddedServer,
) -> None:
    with pytest.raises(PrivilegeMissing, match='Role "ann"') as caught:
        open_database(_as_ann(guarded, SECRET, "closed"))
    _one_safe_sentence(caught.value)


def test_a_table_that_the_role_may_not_read_is_a_missing_privilege(guarded: EmbeddedServer) -> None:
    engine = create_engine(_as_ann(guarded, SECRET))
    with engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError) as caught:
        connection.execute(sa.text("SELECT * FROM stock"))
    explained = explain(caught.value, engine)
    assert isinstance(explained, PrivilegeMissing)
    assert "stock" in str(explained)
    _one_safe_sentence(explained)


def test_a_session_that_the_server_ended_may_be_tried_again(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        database.psql(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.execute("SELECT 1")
    explained = explain(caught.value)
    assert isinstance(explained, DatabaseUnreachable)
    assert explained.retryable


def test_any_other_refusal_keeps_its_state_and_loses_its_values(database: Database) -> None:
    database.psql("CREATE TABLE stock (quantity int CHECK (quantity >= 0))")
    with database.engine.connect() as connection, pytest.raises(sa.exc.IntegrityError) as caught:
        connection.execute(sa.text("INSERT INTO stock VALUES (:q)"), {"q": -987654})
    explained = explain(caught.value, database.engine)
    assert isinstance(explained, StatementFailed)
    assert explained.sqlstate == "23514"
    assert "987654" not in str(explained)


@pytest.mark.parametrize(
    ("number", "version"), [(130_022, "13.22"), (90_624, "9.6"), (100_001, "10.1")]
)
def test_a_server_older_than_14_is_refused(number: int, version: str) -> None:
    with pytest.raises(ServerTooOld, match=f"PostgreSQL {version}, and 14 is the oldest") as caught:
        require_supported(number, "host h:5432, database shop")
    assert caught.value.exit_code == 2


def test_the_server_at_hand_and_14_are_new_enough(database: Database) -> None:
    require_supported(140_000, "host h:5432, database shop")
    assert describe(open_database(database.url)).endswith(f", database {database.name}")


@pytest.mark.parametrize("name", ["Order", 'a"b', "select", "mixed Case", "a :b", "100%", "ünï"])
def test_a_quoted_name_is_the_name(database: Database, name: str) -> None:
    statement = sa.text(f"SELECT 1 AS {escaped(quoted(name))}")
    with database.engine.connect() as connection:
        assert list(connection.execute(statement).keys()) == [name]


def test_a_qualified_name_is_quoted_part_by_part() -> None:
    assert quoted("public", 'Or"der') == '"public"."Or""der"'


@pytest.mark.parametrize("names", [(), ("",), ("a\0b",)])
def test_no_name_is_no_identifier(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="identifier"):
        quoted(*names)


@given(st.text(alphabet=":\\a1 $%'\"[]", max_size=20))
def test_an_escaped_fragment_reaches_the_server_as_it_was(fragment: str) -> None:
    statement = sa.text(escaped(fragment))
    assert not statement.compile().params
    compiled = str(statement.compile(dialect=sa.dialects.postgresql.psycopg.dialect()))
    assert compiled.replace("%%", "%") == fragment


def _one_safe_sentence(error: MigrationError) -> None:
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert str(error).endswith(".")
    assert SECRET not in _everything(error)


def _everything(error: BaseException) -> str:
    """Return all that a traceback would print."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
