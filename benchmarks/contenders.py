"""Who moves the stock in a comparison: the naked statement, the engine, the job, a script.

Each begins on a copy of the same database, says what it took, and is looked at afterwards: has it
moved everything? In which order they go, and what becomes of the figures, belongs in
`throughput.py`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
import yaml

from benchmarks import stock
from benchmarks.moved import all_moved, moved, nothing_moved

_T = TypeVar("_T")

GATES = ("audit_profile", "default_locations", "transformed_stock", "reconciliation_report")


@dataclass(frozen=True)
class Copy:
    """A database with the inventory as it was before anybody moved it.

    Attributes:
        url: Its address.
        shape: The shape to move to.
        folder: Where files of a run may lie.
    """

    url: str
    shape: str
    folder: Path


@dataclass
class Took:
    """What a contender took.

    Attributes:
        seconds: From its beginning to its end.
        structure: How the application's tables look afterwards.
        phases: Seconds by what they were spent on.
        peak_rss_mb: The most memory that its process had; None where that is not ours.
        wal_bytes: What it wrote ahead.
        ledger_bytes: What it keeps, indexes included.
        rollback_seconds: What the way back took afterwards.
    """

    seconds: float
    structure: tuple[str, ...] = ()
    phases: dict[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    wal_bytes: int | None = None
    ledger_bytes: int | None = None
    rollback_seconds: float | None = None


def naked(copy: Copy) -> Took:
    """The statement that somebody in a hurry writes, in the transaction that it needs."""
    with closing(psycopg.connect(copy.url)) as connection:
        first = _written(connection)
        began = time.perf_counter()
        for statement in stock.NAKED[copy.shape]:
            connection.execute(statement)
        connection.commit()
        seconds = time.perf_counter() - began
        written = _written(connection) - first
        return Took(seconds, all_moved(connection, copy.shape), wal_bytes=written)


def engine(copy: Copy, workers: int, *, back: bool = False) -> Took:
    """The engine alone, from the plan to the final proof, its gates taken for passed.

    In a process of its own, whose memory is its own.

    Args:
        copy: Where.
        workers: How many move chunks at the same time.
        back: Whether it is rolled back afterwards.
    """
    return _apart(_engine, copy, workers, back)


def rewrite(copy: Copy) -> Took:
    """The engine alone in a maintenance window, with one rewrite in the place of all chunks."""
    return _apart(_engine, copy, 1, False, True)


def job(copy: Copy) -> Took:
    """The whole job as a user runs it: start-up, audit, gates, plan, chunks, proof and report.

    Waited for by a process of its own, whose only child it is: so its memory is known.
    """
    return _apart(_job, copy)


def rerun(copy: Copy) -> Took:
    """The same job once more, when nothing is left to do."""
    return Took(_run(copy)[0])


def row_by_row(copy: Copy, rows: int) -> float:
    """Records per second of a script as one finds them: batches of 100, each record by itself.

    Of each record the location is looked up, the record is written, and that is committed.
    """
    _prepare_by_hand(copy)
    with closing(psycopg.connect(copy.url)) as connection:
        began, last, done = time.perf_counter(), 0, 0
        while done < rows:
            batch = connection.execute(
                "SELECT id, company_id, quantity, reserved FROM stock_items WHERE id > %s "
                "ORDER BY id LIMIT 100",
                (last,),
            ).fetchall()
            if not batch:
                break
            for record in batch:
                found = connection.execute(
                    "SELECT id FROM locations WHERE company_id = %s AND is_default", (record[1],)
                ).fetchone()
                connection.execute(_ONE_RECORD[copy.shape], (found and found[0], *record))
                connection.commit()
            last, done = batch[-1][0], done + len(batch)
        rate = done / (time.perf_counter() - began)
        _sampled(connection, copy.shape, done)
        return rate


def pandas(copy: Copy, rows: int) -> float:
    """Records per second of `read_sql`, a merge, `to_sql`, and an UPDATE from what that wrote."""
    return _apart(_pandas, copy, rows)


def _pandas(copy: Copy, rows: int) -> float:
    import pandas as pd

    _prepare_by_hand(copy)
    address = sa.make_url(copy.url).set(drivername="postgresql+psycopg")
    with closing(psycopg.connect(copy.url)) as connection:
        began = time.perf_counter()
        made = sa.create_engine(address)
        frame = pd.read_sql(
            sa.text("SELECT id, company_id, quantity, reserved FROM stock_items LIMIT :rows"),
            made,
            params={"rows": rows},
        )
        places = pd.read_sql(sa.text("SELECT id AS location_id, company_id FROM locations"), made)
        found = frame.merge(places, on="company_id")
        found.to_sql("moved", made, index=False, method="multi", chunksize=1_000)
        connection.execute(_FROM_FRAME[copy.shape])
        connection.commit()
        made.dispose()
        rate = len(found) / (time.perf_counter() - began)
        _sampled(connection, copy.shape, len(found))
        return rate


def imports() -> float:
    """CPU seconds of a process that only imports dagster and great_expectations."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import dagster, great_expectations"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def _engine(copy: Copy, workers: int, back: bool, at_once: bool = False) -> Took:
    from inventory_migration import verbs
    from inventory_migration.engine import control, gates, ledger, phases, plan, reconcile
    from inventory_migration.engine.plan import Start
    from inventory_migration.mapping import StockMapping

    _prepare(copy)
    mapping = StockMapping.model_validate(stock.definition(copy.shape))
    target = verbs.open_target(copy.url)
    start = Start(
        explicit=True,
        write_stop=copy.shape == "stock_level",
        maintenance_window=at_once,
        rewrite=at_once,
    )

    def passed(suite: str) -> None:
        with target.engine.begin() as connection:
            ledger.install(connection)
            resolved = plan.resolve(connection, mapping)
            judged = gates.fingerprint(connection, resolved, suite)
            gates.record(connection, resolved, suite, passed=True, judged=judged, verdict={})

    with closing(psycopg.connect(copy.url)) as connection:
        first = _written(connection)
        began = time.perf_counter()
        with control.Claim(target.engine) as claim:
            passed("audit_profile")
            plan.prepare_locations(target.engine, mapping, claim, start)
            passed("default_locations")
            phases.transform_stock(target.engine, mapping, claim, start, workers=workers)
            transformed = time.perf_counter()
            passed("transformed_stock")
            found = reconcile.reconcile(target.engine, mapping, claim, start, workers=workers)
        if not found.proof.passed:
            raise AssertionError(f"the proof found {found.proof.unexplained}")
        ended = time.perf_counter()
        chunks = _ledger_times(connection)
        took = Took(
            ended - began,
            phases={
                "plan": transformed - began - (chunks[1] - chunks[0]),
                "chunks": chunks[1] - chunks[0],
                "proof": ended - transformed,
            },
            wal_bytes=_written(connection) - first,
            ledger_bytes=_kept(connection),
        )
        took.structure = all_moved(connection, copy.shape)
        if back:
            began = time.perf_counter()
            verbs.roll_back(target, mapping, workers=workers)
            took.rollback_seconds = time.perf_counter() - began
            nothing_moved(connection, copy.shape)
    took.peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return took


def _job(copy: Copy) -> Took:
    _prepare(copy)
    with closing(psycopg.connect(copy.url)) as connection:
        first = _written(connection)
        began = time.time()
        seconds, log = _run(copy)
        return Took(
            seconds,
            phases=_spans(log, began, began + seconds, _ledger_times(connection)),
            peak_rss_mb=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
            wal_bytes=_written(connection) - first,
            ledger_bytes=_kept(connection),
            structure=all_moved(connection, copy.shape),
        )


def _sampled(connection: psycopg.Connection, shape: str, records: int) -> None:
    found = moved(connection, shape)[0]
    if found != records:
        raise AssertionError(f"{records} records were to be moved, and {found} are")


def _apart(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def _run(copy: Copy) -> tuple[float, list[dict[str, Any]]]:
    """Call `run` as a program; returns its seconds and its log records."""
    name = f"bench_{copy.shape}"
    mapping, log = copy.folder / f"{name}.yaml", copy.folder / f"{name}.log"
    mapping.write_text(yaml.safe_dump(stock.definition(copy.shape), sort_keys=False))
    log.unlink(missing_ok=True)
    words = ["run", "--mapping", str(mapping), "--log-format", "json", "--log-file", str(log)]
    if copy.shape == "stock_level":
        words.append("--write-stop")
    began = time.perf_counter()
    ended = subprocess.run(  # noqa: S603 - this program
        [sys.executable, "-c", "from inventory_migration.cli import main; main()", *words],
        env={
            **os.environ,
            "INVENTORY_DATABASE_URL": copy.url,
            "INVENTORY_HOME": str(copy.folder / "home"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if ended.returncode:
        raise AssertionError(f"the job ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return seconds, [json.loads(line) for line in log.read_text().splitlines()]


def _spans(
    log: list[dict[str, Any]], began: float, ended: float, chunks: tuple[float, float]
) -> dict[str, float]:
    """Where the job's time went, told by its log and the ledger; what is left is the rest."""
    told = {record["message"]: datetime.fromisoformat(record["time"]).timestamp() for record in log}

    def moment(words: str) -> float:
        return next(at for message, at in told.items() if message.startswith(words))

    gates = sum(moment(f"gate {gate} ") - moment(f"judging {gate}") for gate in GATES)
    profiled = moment("profiling ")
    spans = {
        "start": profiled - began,
        "audit": moment("judging audit_profile") - profiled,
        "gates": gates,
        "plan": chunks[0] - moment("gate audit_profile "),
        "chunks": chunks[1] - chunks[0],
        "proof": moment("judging reconciliation_report") - moment("gate transformed_stock "),
        "report": ended - moment("gate reconciliation_report "),
    }
    between = moment("gate default_locations ") - moment("judging default_locations")
    spans["plan"] -= between
    return {**spans, "rest": ended - began - sum(spans.values())}


def _ledger_times(connection: psycopg.Connection) -> tuple[float, float]:
    """When the first chunk began and the last one ended."""
    row = connection.execute(
        "SELECT extract(epoch FROM min(started_at))::float8, "
        "extract(epoch FROM max(finished_at))::float8 FROM inventory_migration.chunk"
    ).fetchone()
    connection.rollback()
    if row is None or row[0] is None:
        raise AssertionError("nothing was moved")
    return row[0], row[1]


def _kept(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'inventory_migration'::regnamespace"
    ).fetchone()
    connection.rollback()
    return int(row[0]) if row else 0


def _written(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    connection.rollback()
    return int(row[0]) if row else 0


def _prepare(copy: Copy) -> None:
    """Make what the application has made before its stock moves."""
    if stock.PREPARED[copy.shape]:
        with psycopg.connect(copy.url) as connection:
            connection.execute(stock.PREPARED[copy.shape])


def _prepare_by_hand(copy: Copy) -> None:
    """All of the naked way but its last statement."""
    with psycopg.connect(copy.url) as connection:
        for statement in stock.NAKED[copy.shape][:-1]:
            connection.execute(statement)


_ONE_RECORD = {
    "location_column": "UPDATE stock_items SET location_id = %s WHERE id = %s "
    "AND company_id = %s AND quantity = %s AND reserved = %s",
    "stock_level": "INSERT INTO stock_levels (location_id, item_id, on_hand, reserved) "
    "SELECT v.l, v.i, v.q, v.r FROM (VALUES (%s, %s, %s, %s, %s)) AS v (l, i, c, q, r)",
    "allocation_json": "UPDATE stock_items SET allocations = jsonb_build_object((%s)::text, "
    "jsonb_build_object('allocated', quantity, 'reserved', reserved)) WHERE id = %s "
    "AND company_id = %s AND quantity = %s AND reserved = %s",
}

_FROM_FRAME = {
    "location_column": "UPDATE stock_items AS s SET location_id = m.location_id FROM moved AS m "
    "WHERE m.id = s.id",
    "stock_level": "INSERT INTO stock_levels (item_id, location_id, on_hand, reserved) "
    "SELECT id, location_id, quantity, reserved FROM moved",
    "allocation_json": "UPDATE stock_items AS s SET allocations = jsonb_build_object("
    "m.location_id::text, jsonb_build_object('allocated', m.quantity, 'reserved', m.reserved)) "
    "FROM moved AS m WHERE m.id = s.id",
}
