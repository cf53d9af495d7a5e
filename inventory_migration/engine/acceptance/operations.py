"""An application's operations, tried in one transaction that is always rolled back.

Each begins from the same stock, in a savepoint of its own, so that one that fails keeps no other
from being tried, and its locks are gone with it. The transaction sees one moment and what it has
done itself: what others do meanwhile is in no total. What an operation is to do says its mapping.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import psycopg
import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import control
from inventory_migration.engine.acceptance import stock
from inventory_migration.engine.acceptance.sample import Sample, moved_records, take_sample
from inventory_migration.engine.failures import Action, action_for, message, sqlstate
from inventory_migration.engine.patience import backoff
from inventory_migration.engine.shapes import shape_of
from inventory_migration.engine.summary import exact
from inventory_migration.errors import AcceptanceKept, NothingToTry
from inventory_migration.mapping import Expected
from inventory_migration.mapping.statements import bound, parameters

TRIES = 4
"""How often all is tried where somebody else was at the record at that moment."""

LOCK_TIMEOUT = "500ms"
STATEMENT_TIMEOUT = "30s"

SCOPES = ("total", "company", "item", "location", "second_location")
"""Where effects are looked for; the last two are the item at each of these locations."""

Totals = dict[str, dict[str, Decimal]]


@dataclass(frozen=True)
class Trial:
    """What an operation was expected to do, and what it did.

    Attributes:
        name: The operation.
        error: Why it could not be executed: the server's words and SQLSTATE.
        expected: By scope, what was to change.
        observed: By scope, what changed; None where it could not be executed.
        elapsed_ms: What its own statements took.
        again: Whether somebody else was in the way.
    """

    name: str
    expected: Totals
    observed: Totals | None = None
    error: dict[str, Any] | None = None
    elapsed_ms: float = 0.0
    again: bool = False

    @property
    def passed(self) -> bool:
        """Whether it did what was expected, and nothing else."""
        return self.observed == self.expected

    def to_json(self) -> dict[str, Any]:
        """One object for `--json`."""
        return {
            "name": self.name,
            "passed": self.passed,
            "error": self.error,
            "expected": _told(self.expected),
            "observed": None if self.observed is None else _told(self.observed),
            "elapsed_ms": round(self.elapsed_ms, 3),
        }


@dataclass(frozen=True)
class Tried:
    """The record that was taken, and what came of every operation.

    Attributes:
        sample: None where no record was ever moved.
        trials: One for each operation.
    """

    sample: Sample | None
    trials: list[Trial]


def try_operations(engine: sa.Engine, resolved: ResolvedMapping) -> Tried:
    """Execute every operation on one record, compare what it does, and leave nothing of it.

    Raises:
        AcceptanceKept: The transaction did not end as it must; what it did may be there.
        NothingToTry: No record has enough for the operations.
    """
    tried = _once(engine, resolved)
    for attempt in range(1, TRIES):
        if not any(trial.again for trial in tried.trials):
            break
        time.sleep(backoff(attempt))
        tried = _once(engine, resolved)
    return tried


def _once(engine: sa.Engine, resolved: ResolvedMapping) -> Tried:
    mapping = resolved.mapping
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        transaction = connection.begin()
        try:
            with control.cancelled_on_interrupt(connection):
                _as_ourselves(connection)
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
                sample = take_sample(connection, resolved)
                if sample is None:
                    if moved_records(connection, resolved):
                        raise NothingToTry(mapping=mapping.name, needed=mapping.acceptance.needed)
                    return Tried(None, [])
                xid = connection.execute(_OWN_XID).scalar_one()
                tried = _tried(connection, resolved, sample)
        finally:
            if transaction.is_active:
                transaction.rollback()
    require_nothing_kept(engine, mapping.name, xid)
    return tried


def _tried(connection: sa.Connection, resolved: ResolvedMapping, sample: Sample) -> Tried:
    acceptance = resolved.mapping.acceptance
    missing: dict[str, Any] | None = None
    if sample.values["second_location"] is None:
        sample, missing = _second_location(connection, resolved, sample)
    before = _totals(connection, resolved, sample)
    trials = []
    for name, operation in acceptance.operations.items():
        trial = Trial(name, _effect(operation.expect, sample))
        earlier = [sql for one in acceptance.earlier(name) for sql in one.sql]
        if missing and _asks_for_second([*earlier, *operation.sql]):
            trials.append(replace(trial, error=missing))
            continue
        savepoint = connection.begin_nested()
        try:
            start = before
            for number, sql in enumerate(earlier, 1):
                _execute(connection, acceptance.role, sql, sample, number)
            if earlier:
                start = _totals(connection, resolved, sample)
            began = time.monotonic()
            for number, sql in enumerate(operation.sql, 1):
                _execute(connection, acceptance.role, sql, sample, number)
            # What the application would be told at its commit.
            _as_application(connection, acceptance.role)
            connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
            elapsed = 1000 * (time.monotonic() - began)
            observed = _difference(_totals(connection, resolved, sample), start)
            trial = replace(trial, observed=observed, elapsed_ms=elapsed)
        except (psycopg.Error, sa.exc.DBAPIError) as error:
            trial = replace(trial, error=_why(error), again=_in_the_way(error))
            if not _goes_on(connection):
                raise
        finally:
            if savepoint.is_active:
                savepoint.rollback()
        trials.append(trial)
    return Tried(sample, trials)


def _second_location(
    connection: sa.Connection, resolved: ResolvedMapping, sample: Sample
) -> tuple[Sample, dict[str, Any] | None]:
    """Make a second location as the mapping says, or say why operations that need one cannot be."""
    acceptance = resolved.mapping.acceptance
    said = acceptance.second_location
    if not said:
        return sample, _lacking(
            f"company {sample.values['company']} has no second location; say in "
            "acceptance.second_location how one is made"
        )
    savepoint = connection.begin_nested()
    try:
        key = None
        for number, sql in enumerate(said, 1):
            key = _execute(connection, acceptance.role, sql, sample, number)
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        if not _goes_on(connection):
            raise
        savepoint.rollback()
        why = _why(error)
        return sample, {**why, "message": f"acceptance.second_location: {why['message']}"}
    if key is None:
        savepoint.rollback()
        return sample, _lacking("acceptance.second_location returns no key; end it with RETURNING")
    savepoint.commit()
    values = {**sample.values, "second_location": str(key)}
    return replace(sample, values=values, second_made=True), None


def _asks_for_second(statements: list[str]) -> bool:
    return any("second_location" in parameters(sql) for sql in statements)


def _execute(
    connection: sa.Connection, role: str | None, sql: str, sample: Sample, number: int
) -> Any:
    """Execute one statement as the application would; returns the first value that it gives."""
    _as_application(connection, role)
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - every engine here is psycopg's
    query = bound(sql, lambda name: f"CAST(%({name})s AS {sample.types[name]})")
    # Binary results, so that the driver takes the protocol that knows one statement only, with or
    # without parameters.
    with driver.cursor(binary=True) as cursor:
        try:
            cursor.execute(query.encode(), sample.values)
        except psycopg.Error as error:
            error.add_note(f"statement {number}")
            raise
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def _as_application(connection: sa.Connection, role: str | None) -> None:
    """Take on the application's rights, and patience that has an end."""
    connection.execute(sa.text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    if role is not None:
        connection.execute(sa.text("SET LOCAL row_security = on"))
        connection.execute(sa.text(f"SET LOCAL ROLE {escaped(quoted(role))}"))


def _as_ourselves(connection: sa.Connection) -> None:
    """See all rows again, however long it takes."""
    # To what the connection's own options say, which may be a role as well.
    connection.execute(sa.text("RESET ROLE"))
    connection.execute(sa.text("SET LOCAL row_security = off"))
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))


def _goes_on(connection: sa.Connection) -> bool:
    """Whether the session is there still."""
    driver = connection.connection.driver_connection
    return isinstance(driver, psycopg.Connection) and not driver.closed


def _in_the_way(error: BaseException) -> bool:
    """Whether it was somebody else at the record, who may be gone in a moment."""
    return action_for(sqlstate(error)) is Action.RETRY


def _lacking(message: str) -> dict[str, Any]:
    return {"sqlstate": None, "message": message}


def _why(error: BaseException) -> dict[str, Any]:
    notes = getattr(error, "__notes__", [])
    where = f"{notes[0]}: " if notes else ""
    return {"sqlstate": sqlstate(error), "message": f"{where}{message(error)}"}


def _totals(connection: sa.Connection, resolved: ResolvedMapping, sample: Sample) -> Totals:
    """On hand and reserved in every scope, in one look at the target."""
    company = f"l.company_key = CAST(:company AS {resolved.company_key_type})"
    item = f"{company} AND l.item_key IS NOT DISTINCT FROM CAST(:item AS {resolved.item_type})"
    location = shape_of(resolved).same_location(
        f"CAST(:{{}} AS {resolved.location_key_type})", "l.location_key"
    )
    within = {
        "total": "true",
        "company": company,
        "item": item,
        "location": f"{item} AND {location.format('location')}",
        "second_location": f"{item} AND {location.format('second_location')}",
    }
    sums = ", ".join(
        f"COALESCE(sum(l.{measure}) FILTER (WHERE {condition}), 0) AS {scope}_{measure}"
        for scope, condition in within.items()
        for measure in ("on_hand", "reserved")
    )
    _as_ourselves(connection)
    row = connection.execute(
        sa.text(f"SELECT {sums} FROM ({escaped(stock.lines(resolved))}) AS l"),
        {name: sample.values[name] for name in ("company", "item", "location", "second_location")},
    ).one()
    return {
        scope: _with_available(getattr(row, f"{scope}_on_hand"), getattr(row, f"{scope}_reserved"))
        for scope in within
    }


def _effect(expected: Expected, sample: Sample) -> Totals:
    """What an operation does in every scope, by what the mapping expects."""
    on_hand, reserved = expected.on_hand, expected.reserved
    moved, promised = expected.moved, Decimal(0)
    if moved == "all":
        moved, promised = sample.on_hand, sample.reserved
    whole = _with_available(on_hand, reserved)
    return {
        "total": whole,
        "company": whole,
        "item": whole,
        "location": _with_available(on_hand - moved, reserved - promised),
        "second_location": _with_available(moved, promised),
    }


def _with_available(on_hand: Decimal, reserved: Decimal) -> dict[str, Decimal]:
    return {"on_hand": on_hand, "reserved": reserved, "available": on_hand - reserved}


def _difference(after: Totals, before: Totals) -> Totals:
    return {
        scope: {measure: after[scope][measure] - before[scope][measure] for measure in found}
        for scope, found in after.items()
    }


def _told(totals: Mapping[str, Mapping[str, Decimal]]) -> dict[str, dict[str, str]]:
    return {
        scope: {measure: exact(value) for measure, value in found.items()}
        for scope, found in totals.items()
    }


def require_nothing_kept(engine: sa.Engine, mapping: str, xid: str) -> None:
    """Ask the server, in another transaction, what became of ours.

    Raises:
        AcceptanceKept: It was not rolled back.
    """
    with engine.connect() as connection:
        status = connection.execute(_STATUS, {"xid": xid}).scalar()
    if status != "aborted":
        raise AcceptanceKept(mapping=mapping, status=str(status))


_OWN_XID = sa.text("SELECT pg_current_xact_id()::text")
_STATUS = sa.text("SELECT pg_xact_status(CAST(CAST(:xid AS text) AS xid8))")
