"""`status --watch`: a migration watched on a terminal, line by line, and as objects for scripts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from inventory_migration import steering, verbs, watching
from inventory_migration.engine.plan import Start
from inventory_migration_tests import stage
from inventory_migration_tests.commands import PROJECT, im, mapping_file, program
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.sessions import until
from inventory_migration_tests.terminals import CTRL_C, on_terminal

pytestmark = pytest.mark.one_server

PHASES = [{"name": "pilot", "companies": 1}, {"name": "rest"}]
MAPPING = stage.mapping(phases=PHASES)

WORK = """
import sys
import threading
from inventory_migration.database import create_engine
from inventory_migration_tests import stage, test_watch
class Given: engine = create_engine(sys.argv[1])
stage.transform(Given, test_watch.MAPPING)
"""

HERE = "datname = current_database()"
WATCHER = "application_name = 'inventory-migration watching'"


@pytest.fixture
def shop(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A small application whose records take a while each."""
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    stage.shop(database, items=120)
    database.psql("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    yield database
    left = f"SELECT count(*) FROM pg_stat_activity WHERE {HERE} AND {WATCHER}"
    until(lambda: database.psql(left) == "0", "watchers to be gone")


def work(database: Database) -> subprocess.Popen[bytes]:
    """A process that moves the stock of a migration, and can be killed."""
    return subprocess.Popen([sys.executable, "-c", WORK, database.url], cwd=PROJECT)


class Followed:
    """A command whose lines are taken in as it writes them."""

    def __init__(self, *words: str) -> None:
        self.process = program(*words)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def ended(self) -> int:
        code = self.process.wait(60)
        self._reader.join(60)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def objects(told: str) -> list[dict[str, Any]]:
    """The objects of lines."""
    return [json.loads(line) for line in told.splitlines()]


@pytest.mark.slow
def test_a_watch_sees_work_a_death_a_pause_a_silent_database_and_the_end(shop: Database) -> None:
    stage.locations(shop, MAPPING)
    worker = work(shop)
    as_lines = Followed("status", "shop", "--watch", "--interval", "0.2")
    as_json = Followed("status", "--watch", "--interval", "0.2", "--json")
    with on_terminal("status", "--watch", "--interval", "0.2") as terminal:
        seen = terminal.until(lambda text: "running, moving stock" in text and "rest" in text)
        assert "Migration 1 of shop" in seen
        assert "pilot" in seen
        terminal.until("in a transaction")
        assert re.search(r"  1: \d+\.\d %", im("status", "shop").stdout)

        worker.kill()
        worker.wait()
        terminal.until("Nobody works on it: 'inventory-migration run shop'", seconds=10)
        until(lambda: as_lines.said("Nobody works on it"), "the other watch to see it as well")

        steering.pause(verbs.open_target(shop.url), "shop", reason="lunch")
        seen = terminal.until("It stands until 'inventory-migration resume shop'.")
        assert "paused" in seen.splitlines()[0]
        assert "lunch" in seen

        terminal.resize(40, 20)
        terminal.until(lambda text: max(map(len, text.splitlines())) < 40)
        terminal.resize(80, 24)

        asking = [int(pid) for pid in shop.psql(
            f"SELECT pid FROM pg_stat_activity WHERE {HERE} AND {WATCHER}"
        ).split()]  # fmt: skip
        assert len(asking) == 3
        for pid in asking:
            os.kill(pid, signal.SIGSTOP)
        try:
            terminal.until("What is shown is")
        finally:
            for pid in asking:
                os.kill(pid, signal.SIGCONT)
        terminal.until(lambda text: "What is shown is" not in text)

        shop.psql("ALTER TABLE stock_items DISABLE TRIGGER slow")
        stage.transform(shop, MAPPING, start=Start(resume=True))
        stage.close(shop, MAPPING)
        assert terminal.ended() == 0
        last = terminal.text()
        assert "Migration 1 of shop: verified" in last
        assert "120 migrated" in last
        assert "7,260 of 7,260 accounted for, difference 0" in last

    assert as_lines.ended() == 0
    lines = "".join(as_lines.lines)
    said = [line[27:] for line in lines.splitlines()]
    assert all(one != other for one, other in pairwise(said)), "a line stands for a change"
    assert "Nobody works on it" in lines
    assert "is paused (lunch)" in lines
    assert said[-1].startswith("migration 1 of shop is verified, 100.0 %, 120 of 120 records")
    assert "\x1b" not in lines

    assert as_json.ended() == 0
    found = objects("".join(as_json.lines))
    keys = {*watching.picture(verbs.open_target(shop.url), 1), "age_seconds", "error"}
    assert all(set(one) == keys for one in found)
    assert [one["state"] for one in found][-1] == "verified"
    assert {"running", "paused", "verified"} <= {one["state"] for one in found}
    assert found[-1]["percent"] == 100.0
    assert all(one["percent"] < 100 for one in found if one["state"] != "verified")


@pytest.mark.slow
def test_a_run_shows_the_same_with_its_warnings_above_and_leaves_nothing_but_its_answer(
    shop: Database, tmp_path: Path
) -> None:
    shop.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.id = 20 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    path = mapping_file(tmp_path, phases=PHASES)
    with on_terminal("run", "--mapping", path, columns=160, lines=30) as terminal:
        terminal.until("profiling")
        seen = terminal.until(lambda text: "moving stock" in text and "put aside" in text)
        assert re.search(r"(?s)record 20 put aside: not this one.*Migration 1 of shop", seen)
        # Whatever becomes of what the display asks, the work goes on.
        shop.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WATCHER}")
        assert terminal.ended() == 0
        left = terminal.scrolled_off() + "\n" + terminal.text()
    assert left.count("record 20 put aside: not this one") == 1
    assert "Migration 1 of shop is verified." in left
    assert "moving stock" not in left
    assert "writing the report" not in left


def test_ctrl_c_ends_the_watch_and_nothing_else(shop: Database) -> None:
    stage.locations(shop, MAPPING)
    steering.pause(verbs.open_target(shop.url), "shop", reason="lunch")
    with on_terminal("status", "--watch", columns=60, NO_COLOR="1") as terminal:
        terminal.until("paused")
        terminal.press(CTRL_C)
        assert terminal.ended() == 130
        assert "Traceback" not in terminal.text()
        assert "No longer watched" in terminal.text()
        assert "lunch" in terminal.text(), "the last picture stays"
        assert b"\x1b[31m" not in terminal.written
    assert "paused" in im("status", "--watch", "--until-paused", code=4).stdout
    assert shop.psql("SELECT state FROM inventory_migration.migration") == "paused"


def test_nothing_to_watch_is_said_and_so_is_how_what_was_watched_has_ended(
    shop: Database, tmp_path: Path
) -> None:
    for words in ((), ("--json",)):
        told = im("status", "--watch", *words)
        assert "Nothing to watch: no migration yet." in told.stderr
        assert told.stdout == ""
    shop.psql("DROP TRIGGER slow ON stock_items")
    path = mapping_file(tmp_path)
    stage.migrate(shop)
    told = im("status", "--watch", "--mapping", path)
    assert told.stderr == "Nothing is under way; this is how the last migration ended.\n"
    assert "is verified, 100.0 %" in told.stdout
    target = verbs.open_target(shop.url)
    verbs.roll_back(target, stage.MAPPING)
    assert "is rolled back" in im("status", "shop", "--watch").stdout

    limits = {"quarantined_percent": 0.5, "after_records": 1, "action": "rollback"}
    strict = stage.mapping(thresholds=limits)
    shop.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.id = 20 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    stage.locations(shop, strict)
    with pytest.raises(Exception, match="rolled back"):
        stage.transform(shop, strict)
    assert "is rolled back" in im("status", "--watch", code=5).stdout

    stage.locations(shop)
    shop.psql("ALTER FUNCTION refuse() RENAME TO refused")
    shop.psql("""
        CREATE OR REPLACE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'out of order' USING ERRCODE = 'XX000'; END $$;
    """)
    with pytest.raises(Exception, match="out of order"):
        stage.transform(shop)
    told_failed = im("status", "--watch", code=1).stdout
    assert "is failed (out of order" in told_failed
    steering.abort(target, "shop", reason="enough")
    found = objects(im("status", "--watch", "--json", code=4).stdout)
    assert [one["state"] for one in found] == ["aborted"]
    explained = (PROJECT / "docs" / "terminal.md").read_text()
    assert [key for key in found[0] if f"`{key}`" not in explained] == []
