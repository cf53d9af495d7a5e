"""Benchmarks measure what they say: everybody has moved everything, and both sides are alike.

How long anything takes is nobody's concern here.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks import stock
from benchmarks.contenders import Took
from benchmarks.machine import machine
from benchmarks.moved import all_moved, nothing_moved, structure
from benchmarks.throughput import require_alike
from inventory_migration.embedded import EmbeddedServer
from inventory_migration_tests.conftest import FAST, Database

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent

KEYS = {
    *("rows", "shape", "naked_seconds", "engine_seconds", "job_seconds", "rewrite_seconds"),
    *("rerun_seconds", "rollback_seconds", "row_by_row_rows_per_second", "pandas_rows_per_second"),
    *("peak_rss_mb", "wal_bytes_per_row", "ledger_bytes_per_row", "phases_seconds", "ratios"),
}

NOT_ASKED_FOR = ["rerun_seconds", "ratios.rerun"]

ASTRAY = {
    "location_column": [
        "UPDATE stock_items SET location_id = NULL WHERE id = 7",
        "UPDATE stock_items SET location_id = location_id % 3 + 1 WHERE id = 7",
        "UPDATE locations SET is_default = false WHERE company_id = 7",
    ],
    "stock_level": [
        "DELETE FROM stock_levels WHERE item_id = 7",
        "UPDATE stock_levels SET on_hand = on_hand + 1 WHERE item_id = 7",
        "UPDATE stock_levels SET reserved = reserved + 1 WHERE item_id = 7",
    ],
    "allocation_json": [
        "UPDATE stock_items SET allocations = '{}' WHERE id = 7",
        "UPDATE stock_items SET quantity = quantity + 1 WHERE id = 7",
    ],
}


def measured(module: str, *words: str) -> dict[str, Any]:
    """Call a benchmark as `make` does, and return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *words, "--json"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def nulls(found: Any, path: str = "") -> list[str]:
    """Where in a document nothing was measured."""
    if isinstance(found, dict):
        return [each for key, value in found.items() for each in nulls(value, f"{path}.{key}")]
    return [path.removeprefix(".")] if found is None else []


@pytest.mark.parametrize(
    ("shape", "harm"), [(shape, harm) for shape, harms in ASTRAY.items() for harm in harms]
)
def test_a_contender_that_has_not_moved_every_unit_is_found_out(
    shape: str, harm: str, database: Database
) -> None:
    with psycopg.connect(database.url) as connection:
        connection.autocommit = True
        for statement in [*stock.application(2_000), *stock.NAKED[shape]]:
            connection.execute(statement)
        connection.autocommit = False
        assert all_moved(connection, shape) == structure(connection)
        with pytest.raises(AssertionError, match=r"2000, \d+, \d+\) left after the rollback"):
            nothing_moved(connection, shape)
        connection.execute(harm)
        connection.commit()
        with pytest.raises(AssertionError, match="records, units and reserved"):
            all_moved(connection, shape)


def test_the_inventory_has_its_size_and_goes_on_behind_it(database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in stock.application(50):
            connection.execute(statement)
        added = (
            "INSERT INTO stock_items (company_id, sku, quantity) VALUES (1, 'x', 0) RETURNING id"
        )
        assert connection.execute(added).fetchone() == (51,)


@pytest.mark.parametrize(
    "difference",
    [
        "CREATE INDEX ON stock_items (location_id)",
        "ALTER TABLE stock_items ALTER location_id SET NOT NULL",
        "ALTER TABLE stock_items ADD FOREIGN KEY (location_id) REFERENCES locations",
        "CREATE TRIGGER t AFTER INSERT ON stock_items EXECUTE FUNCTION unique_key_recheck()",
    ],
)
def test_a_side_that_has_less_to_keep_up_is_found_out(difference: str, database: Database) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        for statement in [*stock.application(50), *stock.NAKED["location_column"]]:
            connection.execute(statement)
        fewer = structure(connection)
        connection.execute(difference)
        more = structure(connection)
    rounds = {"naked": [Took(1, more)], "engine 2": [Took(1, more), Took(1, fewer)]}
    with pytest.raises(AssertionError, match="differ between naked and engine 2"):
        require_alike(rounds)


def test_what_is_known_of_the_machine_says_what_was_set_and_names_nothing(
    server: EmbeddedServer,
) -> None:
    found = machine(server.url)
    assert found["settings"]["fsync"] == FAST["fsync"] == "off"
    assert found["cores"] == os.cpu_count()
    told = json.dumps(found)
    for name in (str(server.folder), socket.gethostname(), "/"):
        assert name not in told


@pytest.mark.slow
def test_throughput_measures_everything_that_it_was_asked_for() -> None:
    found = measured(
        *("throughput", "--rows", "20000", "--repeat", "1"),
        *("--workers", "2", "--skip", "rerun", "imports"),
    )
    assert found.keys() >= KEYS
    assert nulls(found) == NOT_ASKED_FOR
    assert set(found["phases_seconds"]) >= {"audit", "gates", "plan", "chunks", "proof", "report"}
    assert set(found["rewrite_phases_seconds"]) == {"plan", "chunks", "proof"}
    assert found["peak_rss_mb"] == found["peak_rss_mb_by_process"]["job"]
    assert found["peak_rss_mb"] > 2 * found["peak_rss_mb_by_process"]["engine 2"]
