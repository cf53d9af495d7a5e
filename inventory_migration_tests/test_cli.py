"""The commands of a migration: what people and programs are told, and the exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from inventory_migration.demo import create_demo
from inventory_migration.engine import control, ledger
from inventory_migration_tests import stage
from inventory_migration_tests.commands import (
    PROGRAM,
    PROJECT,
    answer,
    im,
    mapping_file,
    program,
    sentence,
)
from inventory_migration_tests.conftest import Database

pytestmark = [pytest.mark.slow, pytest.mark.one_server]

PHASES = [{"name": "pilot", "companies": 1}, {"name": "rest"}]
WRITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE '%unchanged AS MATERIALIZED%'
      AND state = 'active' AND pid <> pg_backend_pid()
"""
SUMMARY = {
    "migration_id", "mapping", "state", "changed", "companies", "locations_created", "records",
    "quarantined", "warnings", "units", "reserved", "available", "elapsed_seconds", "report",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports and Dagster's history of one test."""
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def demo(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The demo application, in the database that the commands use."""
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    create_demo(database.engine, companies=8, items=400, dirty=0.005)
    return database


@pytest.fixture
def shop(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A very small application, which comes with a mapping file of its own."""
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    stage.shop(database)
    return database


def pairs(text: str) -> dict[str, str]:
    """Return the figures of a printed summary by their names."""
    found = re.findall(r"^ *(\S[^\n]*?)  +(\S[^\n]*)$", text, flags=re.MULTILINE)
    return dict(found)


def test_a_migration_from_the_first_look_to_the_way_back(demo: Database) -> None:
    look = im("test", "stock_items")
    assert "would move 39" in look.stdout
    assert "Nothing was written." in look.stdout
    assert "Gate audit_profile: passes." in look.stdout
    assert demo.psql("SELECT to_regnamespace('inventory_migration') IS NULL") == "t"

    units = f"{int(demo.psql('SELECT sum(quantity) FROM stock_items')):,}"
    done = im("run", "stock_items")
    assert done.stderr.startswith(f"Database: socket {demo.server.socket_folder}, database ")
    assert "Migration 1 of stock_items is verified." in done.stdout
    figures = pairs(done.stdout)
    assert figures["Companies"] == "8"
    assert figures["Default locations"] == "7 created, 1 adopted"
    assert figures["Records"] == "400"
    assert figures["Units"] == f"{units} before, {units} after"
    assert figures["quarantined"] == "3 (company_missing 2, quantity_missing 1)"
    assert Path(figures["Report"]).is_file()
    # Dagster's own log is in its history, not on the terminal.
    assert "STEP_START" not in done.stderr

    again = im("run", "stock_items")
    assert again.stdout.startswith("Nothing to do: no record of stock_items is new since")
    assert "verified" in im("status").stdout
    assert "migration 1, chunk" in im("show", "stock_items", 17).stdout
    assert "every record is accounted for" in im("validate", "stock_items").stdout
    assert (
        "Migration 1 of stock_items is verified, 20"
        in im("report", "stock_items", "--summary").stdout
    )

    demo.psql("UPDATE stock_items SET location_id = NULL WHERE id = 7")
    assert re.search(r"location lost +NO +1 +7", im("validate", "stock_items", code=3).stdout)
    demo.psql(
        "UPDATE stock_items s SET location_id = l.id FROM locations l "
        "WHERE s.id = 7 AND l.company_id = s.company_id"
    )

    asked = im("rollback", "stock_items", code=2)
    assert "say --yes" in sentence(asked)
    undone = im("rollback", "stock_items", "--yes")
    assert undone.stderr.startswith("Database: ")
    assert pairs(undone.stdout)["Undone"].startswith("396 records, 7 locations; 0 records kept")
    assert demo.psql("SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL") == "0"


@pytest.mark.usefixtures("demo")
def test_every_command_answers_a_program_with_one_object(tmp_path: Path) -> None:
    assert answer("status") == []
    predicted = answer("test", "stock_items")
    assert predicted.keys() >= SUMMARY
    assert (predicted["state"], predicted["gate"]["passed"]) == ("predicted", True)
    statements = answer("test", "stock_items", "--sql")
    parts = {"role", "owner", "grants", "write_stop", "monitoring", "acceptance", "unnamed_role"}
    parts |= {"writes"}
    assert statements.keys() == parts

    stopped = answer("run", "stock_items", "--stop-after", "pilot", code=4)
    assert stopped.keys() == {*answer("report", "stock_items"), "error"}
    assert (stopped["state"], stopped["changed"]) == ("paused", True)
    assert stopped["records"]["pending"] > 0
    assert stopped["error"]["kind"] == "MigrationPaused"
    assert stopped["error"]["exit_code"] == 4
    # At once, and so without the summary of a run.
    refused = answer("run", "stock_items", code=4)
    assert refused.keys() == {"error"}
    assert "resume stock_items" in refused["error"]["message"]

    done = answer("resume", "stock_items", "--workers", 1)
    assert done.keys() >= SUMMARY
    assert (done["migration_id"], done["state"], done["changed"]) == (1, "verified", True)
    assert done["units"] == predicted["units"]
    assert {name: done["records"][name] for name in predicted["records"]} == predicted["records"]
    assert done["records"]["pending"] == 0
    assert all(Path(done["report"][form]).is_file() for form in ("markdown", "json"))
    assert answer("resume", "stock_items")["changed"] is False
    assert answer("pause", "stock_items")["changed"] is False

    story = answer("show", "stock_items", 17)
    assert story["history"][0]["outcome"] == "migrated"
    assert story["history"][0]["location_after"] == story["now"]["location"]
    validated = answer("validate", "stock_items")
    assert (validated["passed"], validated["differences"]) == (True, [])
    listed = answer("status", "stock_items")
    assert [(found["migration_id"], found["state"]) for found in listed] == [(1, "verified")]
    report = answer("report", "stock_items", "--out", tmp_path / "out")
    assert Path(report["report"]["json"]).parent == tmp_path / "out"
    foretold = answer("rollback", "stock_items", "--dry-run")
    undone = answer("rollback", "stock_items", "--id", 1, "--yes")
    assert (undone["state"], undone["undone"]["records"]) == ("rolled_back", 396)
    assert undone.keys() >= SUMMARY | {"conflicts", "touched_since", "locations_kept"}
    assert (foretold["state"], foretold["undone"]) == ("verified", undone["undone"])
    assert answer("rollback", "stock_items", "--yes")["changed"] is False


def test_conflicts_of_a_rollback_are_told_before_and_after_it(
    shop: Database, tmp_path: Path
) -> None:
    mapping = ["--mapping", mapping_file(tmp_path)]
    assert "Nothing to do" in im("rollback", *mapping, "--dry-run").stdout
    im("run", *mapping)
    shop.psql(
        "INSERT INTO locations (company_id, name) VALUES (1, 'Shelf');"
        "UPDATE stock_items SET location_id = (SELECT max(id) FROM locations) WHERE id = 4;"
        "CREATE TABLE bins (location_id bigint REFERENCES locations);"
        "INSERT INTO bins SELECT min(id) FROM locations"
    )
    for words, code in (("--dry-run", 3), ("--yes", 0)):
        told = im("rollback", *mapping, words, code=code).stdout
        assert re.search(r"^ *4 +moved since +location_id +1 +\d+", told, re.MULTILINE), told
        assert re.search(r"^ *1 +1 +bins\.location_id", told, re.MULTILINE), told
    assert im("rollback", *mapping, "--dry-run").stdout.startswith("Nothing to do")


def test_a_part_is_foretold_and_rolled_back_and_the_command_for_it_is_told(
    shop: Database, tmp_path: Path
) -> None:
    mapping = ["--mapping", mapping_file(tmp_path)]
    im("run", *mapping)
    part = ["--company", 2, "--phase", "rest"]
    told = im("rollback", *mapping, *part, "--dry-run").stdout
    assert "would take back company 2 of phase rest in migration 1" in told
    assert re.search(r"Records that would go back +10\n", told)
    assert told.endswith("--phase rest --company 2'.\n")
    undone = answer("rollback", *mapping, *part, "--yes")
    assert undone["undone"]["records"] == 10
    assert shop.psql("SELECT count(*) FROM stock_items WHERE location_id IS NULL") == "10"


def test_what_writes_brings_an_older_ledger_up_to_date_and_what_reads_says_so(
    shop: Database, tmp_path: Path
) -> None:
    path = mapping_file(tmp_path)
    im("run", "--mapping", path)
    older = f"UPDATE inventory_migration.version SET version = {ledger.VERSION - 1}"
    version = "SELECT version FROM inventory_migration.version"

    def words(verb: str, *rest: object) -> list[object]:
        return [*verb.split(), "--mapping", path, *rest]

    shop.psql(older)
    for reads in (
        ["status"],
        words("test"),
        words("show", 1),
        words("validate"),
        words("report"),
        words("rollback", "--dry-run"),
        words("quarantine list"),
        words("quarantine show", 1),
    ):
        assert "brings it up to date" in sentence(im(*reads, code=2)), reads
    assert shop.psql(version) == str(ledger.VERSION - 1)
    for writes, code in (
        (words("run"), 0),
        (words("resume"), 0),
        (words("pause"), 0),
        (words("abort", "--yes"), 0),
        (words("quarantine retry", "--all", "--yes"), 0),
        (words("quarantine waive", 1, "--reason", "counted"), 2),
        (words("rollback", "--yes"), 0),
    ):
        shop.psql(older)
        im(*writes, code=code)
        assert shop.psql(version) == str(ledger.VERSION), writes


def test_an_empty_inventory_ends_0_on_every_verb(shop: Database, tmp_path: Path) -> None:
    shop.psql("TRUNCATE stock_items")
    mapping = ["--mapping", mapping_file(tmp_path)]
    for verb in ("test", "run", "validate", "resume", "pause", "status", "report"):
        assert "REFUSES" not in im(verb, *mapping).stdout
    im("rollback", *mapping, "--yes")


def test_what_a_gate_would_refuse_ends_3_and_changes_nothing(demo: Database) -> None:
    create_demo(demo.engine, companies=8, items=400, broken=True, replace=True)
    look = im("test", "stock_items", code=3)
    assert "Gate audit_profile: REFUSES." in look.stdout
    assert "failed: default-location-unambiguous" in look.stdout
    refused = answer("run", "stock_items", code=3)
    assert refused["error"]["kind"] in {"GateRefused", "DefaultLocationWrong"}
    column = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'location_id'"
    assert demo.psql(column) == "0"
    assert demo.psql("SELECT count(*) FROM inventory_migration.migration") == "0"


def test_a_threshold_that_is_exceeded_ends_5_with_everything_undone(
    shop: Database, tmp_path: Path
) -> None:
    limits = {"quarantined_percent": 1, "after_records": 1, "action": "rollback"}
    mapping = ["--mapping", mapping_file(tmp_path, thresholds=limits)]
    shop.psql("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.id = 20 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    told = im("run", *mapping, "--json", code=5)
    assert "Rolled back: migration 1 of shop was rolled back: 1 of " in told.stderr
    assert shop.psql("SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL") == "0"
    found = json.loads(told.stdout)
    assert (found["migration_id"], found["state"]) == (1, "rolled_back")
    assert found["quarantined"] == {"refused_by_server": 1}


def test_an_error_that_nobody_foresaw_ends_1_and_says_how_to_go_on(
    shop: Database, tmp_path: Path
) -> None:
    mapping = ["--mapping", mapping_file(tmp_path)]
    shop.psql("""
        CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'out of order' USING ERRCODE = 'XX000'; END $$;
        CREATE TRIGGER broken BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION broken();
    """)
    failed = answer("run", *mapping, code=1)
    assert failed["state"] == "failed"
    assert "out of order" in failed["error"]["message"]
    assert "resume --mapping " in failed["error"]["message"]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_ctrl_c_leaves_a_run_paused_and_a_person_takes_it_to_its_end_and_back(
    shop: Database, tmp_path: Path, ended_by: signal.Signals
) -> None:
    path = str(mapping_file(tmp_path))
    shop.psql("""
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION slow();
    """)
    running = program("run", "--mapping", path)
    deadline = time.monotonic() + 180
    while shop.psql(WRITING) == "0":
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    running.send_signal(ended_by)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 4, err
    assert "Traceback" not in err
    said = err.splitlines()[-1]
    assert said.startswith("Stopped: migration 1 of shop is paused (interrupted); ")
    assert "resume --mapping " in said
    assert "pending" in out
    assert answer("status")[0]["state"] == "paused"
    shop.psql("DROP TRIGGER slow ON stock_items")

    shown, code = on_a_terminal("resume", "--mapping", path)
    assert code == 0
    # What is over before the line is drawn again is not in it, as judging is.
    for line in ("starting (1 s)", "profiling stock_items"):
        assert line in shown
    # A live line instead of lines of a log.
    assert not re.search(r"^20\d\d-", shown, flags=re.MULTILINE)
    assert "Migration 1 of shop is verified." in shown

    shown, code = on_a_terminal("rollback", "--mapping", path, says="n\n")
    assert "This undoes migration 1 of shop: 30 records go back to what they were." in shown
    assert "Nothing was changed." in shown
    assert code == 1
    assert answer("status")[0]["state"] == "verified"
    _, code = on_a_terminal("rollback", "--mapping", path, says="y\n")
    assert code == 0
    assert answer("status")[0]["state"] == "rolled_back"


def test_pausing_stops_a_run_elsewhere_and_says_what_is_left(
    shop: Database, tmp_path: Path
) -> None:
    path = str(mapping_file(tmp_path, phases=PHASES))
    assert "Nothing to pause" in im("pause", "--mapping", path).stdout
    im("run", "--mapping", path, "--stop-after", "pilot", code=4)
    # As a run leaves it that was killed: nobody works on it, and its state says otherwise.
    shop.psql("""
        UPDATE inventory_migration.migration SET state = 'running';
        UPDATE inventory_migration.control SET desired = 'run';
    """)
    listed = im("status", "shop").stdout
    assert "running, left" in listed
    assert "Nobody works on migration 1: 'inventory-migration run shop' takes it up." in listed
    # Without the file: the ledger knows the name.
    paused = im("pause", "shop")
    assert "is paused; 20 records are left" in paused.stdout
    assert "paused already" in im("pause", "shop").stdout


def test_an_abort_asks_ends_a_migration_and_says_what_may_follow(
    shop: Database, tmp_path: Path
) -> None:
    path = str(mapping_file(tmp_path, phases=PHASES))
    assert "Nothing to abort" in im("abort", "--mapping", path).stdout
    im("run", "--mapping", path, "--stop-after", "pilot", code=4)
    assert shop.psql("SELECT count(*) FROM stock_items WHERE location_id IS NOT NULL") == "10"
    unasked = sentence(im("abort", "shop", code=2))
    assert "10 records stay where they were moved to, 20 are left as they are" in unasked
    assert "say --yes" in unasked
    ended = im("abort", "shop", "--yes", "--reason", "wrong mapping").stdout
    assert "Migration 1 of shop is aborted; what it moved stays." in ended
    assert "'inventory-migration run shop' begins anew" in ended
    again = answer("abort", "shop")
    assert (again["changed"], again["state"], again["reason"]) == (
        False,
        "aborted",
        "wrong mapping",
    )
    refused = sentence(im("resume", "--mapping", path, code=4))
    assert "was aborted, and there is nothing to resume" in refused


def test_a_pause_that_waits_says_for_whom_and_force_ends_it(shop: Database, tmp_path: Path) -> None:
    path = str(mapping_file(tmp_path, phases=PHASES))
    im("run", "--mapping", path, "--stop-after", "pilot", code=4)
    shop.psql("""
        UPDATE inventory_migration.migration SET state = 'running';
        UPDATE inventory_migration.control SET desired = 'run';
    """)
    with shop.engine.connect() as worker:
        control.enter(worker, 1)
        waiting = answer("pause", "shop", "--wait", "0.3", code=1)["error"]
        assert waiting["kind"] == "StillBusy"
        assert "process " in waiting["busy"][0]
        assert waiting["retryable"] is True
        paused = im("pause", "shop", "--force", "--reason", "lunch")
        assert "waiting for process " in paused.stderr
        assert "is paused; 20 records are left" in paused.stdout
        worker.invalidate()
    assert "lunch" in im("status", "shop").stdout
    assert "Go on with 'inventory-migration resume shop'." in im("status").stdout


def on_a_terminal(*words: str, says: str = "") -> tuple[str, int]:
    """Run a command on a terminal of its own, type something, and return what it showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(PROJECT)
        os.environ.update(TERM="xterm", COLUMNS="120")
        os.execv(PROGRAM[0], [*PROGRAM, *words])  # noqa: S606
    os.write(terminal, says.encode())
    shown = b""
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:
            break
        if not some:
            break
        shown += some
    _, status = os.waitpid(child, 0)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n")
    return plain, os.waitstatus_to_exitcode(status)


def test_a_log_is_json_where_that_is_asked_for_and_no_password_is_printed_logged_or_kept(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "Sup3rS3cret-pw"
    url = shop.url.replace("postgres@", f"postgres:{secret}@", 1)
    path, log = mapping_file(tmp_path), tmp_path / "run.log"
    monkeypatch.delenv("INVENTORY_DATABASE_URL")
    given = ["--log-format", "json", "--log-file", log, "--database-url", url]
    done = im(*given, "run", "--mapping", path, "--json")
    database, *lines = done.stderr.splitlines()
    assert database.startswith("Database: ")
    assert log.read_text().splitlines() == lines
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert {"time", "level", "logger", "message"} <= records[0].keys()
    assert {record["migration_id"] for record in records if "chunk" in record} == {1}
    assert json.loads(done.stdout)["state"] == "verified"

    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".db" for file in kept), "Dagster's history is among them"
    assert [file for file in kept if secret.encode() in file.read_bytes()] == []
    assert secret not in done.stdout + done.stderr


def test_names_from_the_database_do_not_reach_the_terminal_as_commands(
    shop: Database, tmp_path: Path
) -> None:
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE stock_items SET sku = %s", ("\x1b[2J[red]X[/red]\x07",))
    shown = im("show", 7, "--mapping", mapping_file(tmp_path)).stdout
    assert r"\x1b[2J[red]X[/red]\x07" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
