"""How well the end of a run is foretold, and what watching it costs the database.

A whole run, started as a user starts it, is watched by a poller from its first chunk to its proof;
afterwards it is known when it ended, and so by how much each forecast was off. What watching costs
is the CPU time of the poller's process at the server, on ledgers of several sizes whose migration
seems to be under way, with one viewer and with many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import yaml

from benchmarks import stock
from benchmarks.servers import temporary_server
from inventory_migration import verbs, watching
from inventory_migration.database import create_engine
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import control, ledger
from inventory_migration.watching import Poller

SHARES = (0.10, 0.25, 0.50, 0.75)
"""At which parts of the records forecasts are compared."""

CHUNKS = (100, 10_000, 100_000)
VIEWERS = (1, 10, 100)
RECORDS_PER_CHUNK = 1_000
LOOK_SECONDS = 0.25
"""How often a viewer looks."""

Forecast = dict[str, Any]


def foretell(
    server: EmbeddedServer, records: int, shape: str, pace: int | None, folder: Path
) -> list[Forecast]:
    """Watch a run to its end; returns what was foretold at each share, and how it came."""
    with _database(server, "watched") as url:
        _fill(url, records, shape)
        target = verbs.open_target(url)
        poller = Poller(target)
        poller.subscribe(1)
        run = _start(url, shape, pace, folder)
        seen: list[dict[str, Any]] = []
        while run.poll() is None:
            found = poller.latest(1).picture
            if found is not None and (not seen or seen[-1]["at"] != found["at"]):
                seen.append(found)
                if found["finished_at"]:
                    break
            time.sleep(0.05)
        poller.close()
        ended = watching.picture(target, 1)
        _keep(folder, seen, ended, _marks(url))
        # The report comes after the verdict, and is nothing that is foretold.
        if run.wait():
            raise AssertionError((folder / "run.err").read_text())
        return [_compared(share, seen, ended) for share in SHARES]


def _compared(share: float, seen: Sequence[dict[str, Any]], ended: dict[str, Any]) -> Forecast:
    total = ended["records"]["snapshot"]
    found = next(
        (
            picture
            for picture in seen
            if picture["eta"] and total - picture["records"]["pending"] >= share * total
        ),
        None,
    )
    if found is None:
        return {"share": share, "foretold": None, "actual": None, "error": None, "within": None}
    actual = (_moment(ended["finished_at"]) - _moment(found["at"])).total_seconds()
    eta = found["eta"]
    return {
        "share": share,
        "foretold": eta["seconds"],
        "actual": actual,
        "error": abs(eta["seconds"] - actual) / actual if actual > 0 else None,
        "within": eta["low"] <= actual <= eta["high"],
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _keep(
    folder: Path, seen: Sequence[dict[str, Any]], ended: dict[str, Any], marks: list[list[str]]
) -> None:
    """Keep what was seen, for whoever wants to know why a forecast was off."""
    lines = [json.dumps({**found, "events": [], "gates": []}) for found in (*seen, ended)]
    lines.append(json.dumps(marks))
    (folder / f"seen-{int(time.time())}.jsonl").write_text("\n".join(lines))


def cost(server: EmbeddedServer, chunks: int, viewers: int, seconds: float) -> dict[str, float]:
    """Milliseconds of the server's CPU time per second that so many viewers cost."""
    with _database(server, "ledger") as url, _ledger_of(url, chunks) as target:
        poller = Poller(target)
        ended = threading.Event()

        def look() -> None:
            poller.subscribe(1)
            while not ended.wait(LOOK_SECONDS):
                poller.latest(1)
            poller.unsubscribe(1)

        threads = [threading.Thread(target=look) for _ in range(viewers)]
        for thread in threads:
            thread.start()
        while poller.latest(1).picture is None:
            time.sleep(0.02)
        # What is asked first is everything at once, and no measure of what follows.
        before, began = _cpu_seconds(url), time.monotonic()
        oldest = 0.0
        while time.monotonic() - began < seconds:
            oldest = max(oldest, poller.latest(1).age_seconds or 0.0)
            time.sleep(0.1)
        spent, took = _cpu_seconds(url) - before, time.monotonic() - began
        ended.set()
        for thread in threads:
            thread.join()
        poller.close()
        began = time.perf_counter()
        watching.picture(target, 1)
        whole = time.perf_counter() - began
    return {"ms_per_second": 1000 * spent / took, "oldest": oldest, "whole_ms": 1000 * whole}


def _cpu_seconds(url: str) -> float:
    """What the poller's process at the server has used so far."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'inventory-migration watching'"
        ).fetchall()
    if len(rows) != 1:
        raise AssertionError(f"{len(rows)} sessions watch, and one is expected")
    words = Path(f"/proc/{rows[0][0]}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _marks(url: str) -> list[list[str]]:
    """When gates opened and judged, and what else was noted."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT at, kind FROM inventory_migration.event UNION ALL SELECT opened_at, "
            "CASE WHEN passed IS NULL THEN 'opened_' ELSE 'judged_' END || suite "
            "FROM inventory_migration.gate ORDER BY 1"
        ).fetchall()
    return [[at.isoformat(), kind] for at, kind in rows]


@contextmanager
def _ledger_of(url: str, chunks: int) -> Iterator[verbs.Target]:
    """A ledger whose migration is half done, with somebody who seems to work on it."""
    engine = create_engine(url)
    with engine.begin() as connection:
        ledger.install(connection)
    with psycopg.connect(url) as connection:
        for statement in LEDGER.format(chunks=chunks, records=RECORDS_PER_CHUNK).split(";\n"):
            connection.execute(statement)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    with control.Claim(engine) as claim:
        claim.take("public.stock_items.location_id")
        yield verbs.open_target(url)


LEDGER = """
    INSERT INTO inventory_migration.migration
        (mapping, mapping_hash, definition, target, source_oid, started_by, snapshot_records,
         snapshot_units, snapshot_reserved, started_at)
    SELECT 'bench', 'x', '{{}}', 'public.stock_items.location_id', 1, 'bench',
           {chunks} * {records}, 7, 1, clock_timestamp() - interval '1 hour';
    INSERT INTO inventory_migration.control (migration_id, set_by) VALUES (1, 'bench');
    INSERT INTO inventory_migration.phase (migration_id, number, name, companies, records)
    SELECT 1, n, 'phase ' || n, 100, {chunks} * {records} / 3 FROM generate_series(1, 3) AS n;
    INSERT INTO inventory_migration.chunk
        (migration_id, number, phase, records, state, migrated, units_before, units_after,
         reserved_before, reserved_after, xid, started_at, finished_at)
    SELECT 1, n, 1 + 3 * (n - 1) / {chunks}, {records},
           CASE WHEN done THEN 'done' ELSE 'pending' END, CASE WHEN done THEN {records} ELSE 0 END,
           CASE WHEN done THEN 1234 END, CASE WHEN done THEN 1234 END,
           CASE WHEN done THEN 12 END, CASE WHEN done THEN 12 END,
           CASE WHEN done THEN (1000 + n / 5)::text END,
           CASE WHEN done THEN began END, CASE WHEN done THEN began + interval '300 ms' END
    FROM (SELECT n, n <= {chunks} / 2 AS done,
                 clock_timestamp() - interval '1 hour'
                 + (n / 5) * 5 * interval '1 hour' / (0.5 * {chunks} + 1) AS began
          FROM generate_series(1, {chunks}) AS n) AS g;
    UPDATE inventory_migration.migration SET state = 'running';
    INSERT INTO inventory_migration.event (migration_id, who, kind)
    SELECT 1, 'bench', 'state_running' FROM generate_series(1, 300);
    INSERT INTO inventory_migration.outcome
        (migration_id, position, chunk, key_text, outcome, rule, reason, state)
    SELECT 1, n, 1 + n % ({chunks} / 2), n::text, 'quarantined', 'quantity_missing', 'none', 'open'
    FROM generate_series(1, {chunks}) AS n
"""


@contextmanager
def _database(server: EmbeddedServer, name: str) -> Iterator[str]:
    made = f"{name}_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {made} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {made} TEMPLATE template0")
        yield server.url.replace("/inventory?", f"/{made}?")
        connection.execute(f"DROP DATABASE {made} WITH (FORCE)")


def _fill(url: str, records: int, shape: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for statement in [*stock.application(records), stock.PREPARED[shape]]:
            if statement.strip():
                connection.execute(statement)


def _start(url: str, shape: str, pace: int | None, folder: Path) -> subprocess.Popen[bytes]:
    """Call `run` as a program."""
    mapping = folder / "mapping.yaml"
    mapping.write_text(yaml.safe_dump(stock.definition(shape), sort_keys=False))
    words = ["run", "--mapping", str(mapping), "--log-file", str(folder / "run.log")]
    if shape == "stock_level":
        words.append("--write-stop")
    if pace is not None:
        words += ["--max-rows-per-second", str(pace)]
    with (folder / "run.err").open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-c", "from inventory_migration.cli import main; main()", *words],
            env={
                **os.environ,
                "INVENTORY_DATABASE_URL": url,
                "INVENTORY_HOME": str(folder / "home"),
            },
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def _print_forecasts(rounds: Sequence[Sequence[Forecast]]) -> None:
    print("\n| records done | ETA s | actual s | error | errors of all rounds | within the band |")
    print("|---|---|---|---|---|---|")
    for number, share in enumerate(SHARES):
        found = [forecasts[number] for forecasts in rounds]
        known = [one for one in found if one["error"] is not None]
        if not known:
            print(f"| {share:.0%} | – | – | – | – | – |")
            continue
        errors = [one["error"] for one in known]
        listed = ", ".join(f"{error:.0%}" for error in errors)
        print(
            f"| {share:.0%} | {median(one['foretold'] for one in known):.1f} | "
            f"{median(one['actual'] for one in known):.1f} | {median(errors):.0%} | {listed} | "
            f"{sum(one['within'] for one in known)} of {len(known)} |",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables for `docs/reliability.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3, help="whole runs; 0 for none")
    parser.add_argument("--pace", type=int, help="records per second at most, as in a busy shop")
    parser.add_argument("--seconds", type=float, default=30, help="of watching, for each cost")
    parser.add_argument("--shape", choices=[*stock.SHAPES], default="location_column")
    parser.add_argument("--chunks", type=int, nargs="*", default=CHUNKS)
    parser.add_argument("--viewers", type=int, nargs="*", default=VIEWERS)
    parser.add_argument("--keep", type=Path, help="a folder for what was seen of each run")
    chosen = parser.parse_args(arguments)
    with temporary_server("watching") as (server, running):
        paced = f", at most {chosen.pace} per second" if chosen.pace else ""
        print(f"{running.version}, {os.cpu_count()} cores, {chosen.records} records{paced}")
        kept = chosen.keep or server.folder.parent
        rounds = [
            foretell(server, chosen.records, chosen.shape, chosen.pace, kept)
            for _ in range(chosen.rounds)
        ]
        _print_forecasts(rounds)
        print("\n| chunks | viewers | ms per s | oldest s | a whole picture ms |")
        print("|---|---|---|---|---|")
        for chunks in chosen.chunks:
            for viewers in chosen.viewers:
                found = cost(server, chunks, viewers, chosen.seconds)
                print(
                    f"| {chunks:,} | {viewers} | {found['ms_per_second']:.1f} | "
                    f"{found['oldest']:.1f} | {found['whole_ms']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
