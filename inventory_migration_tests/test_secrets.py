"""A password is nowhere but where it was given: not in an answer, an error, a log, a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from inventory_migration import logs
from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests import stage, story
from inventory_migration_tests.commands import im, mapping_file
from inventory_migration_tests.conftest import SECRET, Database, made_database
from inventory_migration_tests.dagster_runs import dagster, environment, job_execute

pytestmark = pytest.mark.one_server

WRONG = "Wr0ng'er\\%@:/pass wörd"
PHASES = [{"name": "pilot", "companies": 1}, {"name": "rest"}]


def spellings(secret: str) -> set[bytes]:
    """A password in every spelling that some program might give it."""
    found = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        secret.replace("\\", "\\\\").replace("'", "\\'"),
    }
    return {spelling.encode() for spelling in found}


SPELLINGS = {spelling for secret in (SECRET, WRONG) for spelling in spellings(secret)}


class Kept:
    """A folder in which everything lies that commands write, and all that they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def call(self, *words: object, code: int) -> None:
        """Call a command, with and without `--json`, and keep what it says."""
        for form in ([], ["--json"]):
            told = im(*words, *form, code=code)
            self.said.append(f"call {len(self.said)}\n{told.stdout}\n{told.stderr}")

    def betrayals(self) -> list[str]:
        """Say where a password shows, and where the files that were meant to be looked at are."""
        files = {str(p): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}
        texts = {said.partition("\n")[0]: said.encode() for said in self.said}
        return [
            f"{spelling!r} in {where}"
            for where, content in {**files, **texts}.items()
            for spelling in SPELLINGS
            if spelling in content
        ]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    home = tmp_path / "kept"
    home.mkdir()
    monkeypatch.setenv("INVENTORY_HOME", str(home / "home"))
    return Kept(home)


@pytest.fixture
def shop(guarded: EmbeddedServer) -> Iterator[Database]:
    """The shop, owned by a role that needs a password."""
    with made_database(guarded) as database:
        stage.shop(database, items=12)
        database.psql(f"""
            UPDATE stock_items SET quantity = NULL WHERE id = 5;
            ALTER DATABASE {database.name} OWNER TO ann; ALTER SCHEMA public OWNER TO ann;
            ALTER TABLE companies OWNER TO ann; ALTER TABLE stock_items OWNER TO ann;
        """)
        yield database


def url(database: Database, password: str) -> str:
    folder = quote(str(database.server.socket_folder), safe="")
    return f"postgresql://ann:{quote(password, safe='')}@/{database.name}?host={folder}"


def keywords(database: Database, password: str, before: str = "") -> str:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"host={database.server.socket_folder} user=ann dbname={database.name} "
        f"{before}password='{escaped}'"
    )


def without(database: Database) -> str:
    """A URL that leaves the password to somebody else."""
    folder = quote(str(database.server.socket_folder), safe="")
    return f"postgresql://ann@/{database.name}?host={folder}"


Way = Callable[[Database, str, Path], tuple[dict[str, str], list[str]]]


def in_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


WAYS: Mapping[str, Way] = {
    "a URL on the command line": lambda d, p, _: ({}, ["--database-url", url(d, p)]),
    "keywords on the command line": lambda d, p, _: ({}, ["--database-url", keywords(d, p)]),
    "a parameter of a URL": lambda d, p, _: (
        {},
        ["--database-url", f"{without(d)}&password={quote(p, safe='')}"],
    ),
    "a URL in the environment": lambda d, p, _: ({"INVENTORY_DATABASE_URL": url(d, p)}, []),
    "keywords in the environment": lambda d, p, _: (
        {"INVENTORY_DATABASE_URL": keywords(d, p)},
        [],
    ),
    "a file of variables": lambda d, p, f: (
        {},
        ["--env-file", str(in_file(f / "shop.env", f'INVENTORY_DATABASE_URL="{url(d, p)}"\n'))],
    ),
    "PGPASSWORD": lambda d, p, _: (
        {"INVENTORY_DATABASE_URL": without(d), "PGPASSWORD": p},
        [],
    ),
    "a password file": lambda d, p, f: (
        {
            "INVENTORY_DATABASE_URL": without(d),
            "PGPASSFILE": str(
                in_file(f / "pgpass", "*:*:*:ann:" + p.replace("\\", "\\\\").replace(":", "\\:"))
            ),
        },
        [],
    ),
    "a service file": lambda d, p, f: (
        {
            "PGSERVICEFILE": str(
                in_file(
                    f / "services",
                    f"[shop]\nhost={d.server.socket_folder}\nuser=ann\ndbname={d.name}\n"
                    f"password={p}\n",
                )
            )
        },
        ["--database-url", "service=shop"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_password_does_not_show_however_it_is_given(
    shop: Database, kept: Kept, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = mapping_file(tmp_path)
    # Set and taken away, so that what a file of variables sets does not outlive the test.
    monkeypatch.setenv("INVENTORY_DATABASE_URL", "")
    monkeypatch.delenv("INVENTORY_DATABASE_URL")
    for password, code in ((SECRET, 0), (WRONG, 2)):
        given, options = WAYS[way](shop, password, tmp_path)
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            log = ["--log-file", kept.folder / f"log-{code}"]
            kept.call("status", *options, *log, code=code)
            kept.call("grants", "--mapping", mapping, *options, *log, code=code)
            kept.call("run", "--workers", "many", "--mapping", mapping, *options, code=2)
            monkeypatch.delenv("INVENTORY_DATABASE_URL", raising=False)
    assert kept.betrayals() == []


@pytest.mark.parametrize(
    "broken",
    [
        f"mysql://ann:{quote(WRONG)}@db/shop",
        f"postgresql://ann:{WRONG}@db/shop",
        f"postgresql://ann:{quote(WRONG, safe='')}@127.0.0.1:1/shop",
        f"postgresql://ann:{quote(WRONG, safe='')}@no.such.host.invalid/shop",
        f"postgresql://ann:{quote(WRONG, safe='')}@db:port/shop",
        f"host=127.0.0.1 port=1 password='{WRONG}' nonsense",
        f"pasword={WRONG}",
    ],
)
def test_a_password_does_not_show_where_the_database_is_not_reached(
    kept: Kept, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = mapping_file(tmp_path)
    kept.call("status", "--database-url", broken, code=2)
    kept.call("run", "--mapping", mapping, "--database-url", broken, code=2)
    if "%40" in broken:
        # Where something else was expected.
        kept.call("status", broken, "--database-url", "host=/nowhere", code=2)
        kept.call("run", "--mapping", broken, code=2)
        kept.call("run", "shop", broken, code=2)
        kept.call(broken, code=2)
    monkeypatch.setenv("INVENTORY_DATABASE_URL", broken)
    kept.call("status", "--log-file", kept.folder / "log", "--log-format", "json", code=2)
    kept.call("test", "--mapping", mapping, code=2)
    assert kept.betrayals() == []


@pytest.mark.slow
def test_no_command_and_no_file_shows_a_password(
    shop: Database, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole story, failures in its middle, and Dagster's own way to run it."""
    path = mapping_file(tmp_path, phases=PHASES, acceptance=story.ACCEPTANCE)
    home = kept.folder / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", url(shop, SECRET))
    log = ["--log-file", str(kept.folder / "log")]
    seen = set()
    for step, told in story.tell(shop, stage.mapping(phases=PHASES), path, "3", *log):
        seen.add(step.command)
        kept.said.append(f"{step}\n{told.stdout}\n{told.stderr}")
    assert seen == {step.command for step in story.STORY}
    shop.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION SQLSTATE 'XX000'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    kept.call("run", "--mapping", path, *log, "--log-format", "json", code=1)
    kept.call("report", "--mapping", path, "--out", kept.folder / "reports", code=0)
    for password in (SECRET, WRONG):
        variables = environment(shop, home, stage.mapping(phases=PHASES))
        variables["INVENTORY_DATABASE_URL"] = url(shop, password)
        run = dagster(
            *job_execute("migrate_shop"),
            environment=variables,
            log=kept.folder / f"dagster-{len(password)}.log",
        )
        assert run.wait(timeout=200) == 1
    written = {found.suffix for found in kept.folder.rglob("*") if found.is_file()}
    assert {".log", ".db", ".html", ".md", ".json", ".err"} <= written
    assert kept.betrayals() == []


def test_spellings_of_a_password_are_known_from_every_form_of_a_url() -> None:
    for given in (
        f"postgresql://ann:{quote(WRONG, safe='')}@db/shop",
        f"postgresql://ann@db/shop?password={quote(WRONG, safe='')}",
        "host=db password='" + WRONG.replace("\\", "\\\\").replace("'", "\\'") + "'",
    ):
        known = logs.known_secrets(given)
        assert {spelling.decode() for spelling in spellings(WRONG)} <= set(known)
    assert "secret-word" in logs.known_secrets("host=db password = secret-word user=ann")
