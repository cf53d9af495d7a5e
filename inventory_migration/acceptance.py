"""Whether an application still works after the move, as one verb: what is tried, asked and found.

How an operation is tried and a query compared is in `engine/acceptance/`; what a person is shown of
it in `cli/`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration import verbs
from inventory_migration.catalog import ResolvedMapping, resolve
from inventory_migration.demo.schema import MARK
from inventory_migration.engine import joins, ledger
from inventory_migration.engine.acceptance import kept, operations, queries
from inventory_migration.engine.acceptance.operations import SCOPES, Trial, Tried
from inventory_migration.engine.acceptance.queries import Answered
from inventory_migration.engine.acceptance.stock import MEASURES
from inventory_migration.engine.ledger import Migration
from inventory_migration.errors import (
    CommandUnclear,
    NothingMigrated,
    NotVerified,
    SuperuserRefused,
)
from inventory_migration.mapping import StockMapping

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

logger = logging.getLogger(__name__)

_NEXT = {
    "planned": "run {}",
    "running": "status",
    "verifying": "run {}",
    "paused": "resume {}",
    "held": "resume {}",
    "failed": "resume {}",
    "rolling_back": "rollback {}",
    "rolled_back": "run {}",
    "aborted": "run {}",
}
"""The command that leads to a verified migration, by how the last one stands."""


def is_ready(target: Target, mapping: StockMapping, *, as_superuser: bool = False) -> bool:
    """Refuse at once what would be refused later; whether the stock is that of the demo.

    Raises:
        CommandUnclear: The mapping names no operation and no query, or a role that cannot be had.
        MappingInvalid: The mapping does not fit the database.
        NothingMigrated: There is nothing whose effect could be tried.
        NotVerified: The mapping's migration is not verified, or not any more.
        SuperuserRefused: The role would lend its rights to the application's triggers.
    """
    if not (mapping.acceptance.operations or mapping.acceptance.queries):
        raise CommandUnclear(
            f"the mapping {mapping.name} does not say what is to work after the move; give it a "
            "section acceptance with operations as SQL, and what each does to the totals: "
            "docs/acceptance.md"
        )
    with target.reader.connect() as connection:
        resolved = resolve(connection, mapping)
        if mapping.acceptance.operations:
            _refuse_role(connection, resolved, as_superuser=as_superuser)
        _verified(connection, mapping.name)
        mark = connection.execute(_COMMENT, {"oid": resolved.source.oid}).scalar()
    return mark == MARK


def accept(target: Target, mapping: StockMapping) -> dict[str, Any]:
    """Try the mapping's operations and ask its queries; keeps nothing but the result, as an event.

    Raises:
        AcceptanceKept: What operations did was not undone.
        NothingToTry: No record has enough for the operations.
        MigrationError: What `is_ready` refuses.
    """
    started = time.monotonic()
    with verbs.one_moment(target) as (connection, _):
        resolved = resolve(connection, mapping)
        joins.refuse_unfaithful(connection, resolved)
        migration = _verified(connection, mapping.name)
        logger.info("asking %d queries", 4 + len(mapping.acceptance.queries))
        answered = queries.ask(connection, resolved)
        as_of = connection.execute(sa.text("SELECT transaction_timestamp()")).scalar_one()
    tried = _tried(target, resolved)
    findings = [*_of_operations(tried), *_of_queries(answered, mapping)]
    found = {
        "migration_id": migration.migration_id,
        "mapping": mapping.name,
        "mapping_hash": mapping.hash,
        "passed": not any(finding["severity"] == "critical" for finding in findings),
        "as_of": as_of.isoformat(),
        "record": tried.sample.told() if tried.sample else None,
        "operations": [trial.to_json() for trial in tried.trials],
        "queries": [answer.to_json() for answer in answered],
        "findings": findings,
        "elapsed_seconds": round(time.monotonic() - started, 3),
    }
    with target.engine.begin() as connection:
        kept.keep(connection, migration.migration_id, found)
    return found


def _tried(target: Target, resolved: ResolvedMapping) -> Tried:
    wanted = resolved.mapping.acceptance.operations
    if not wanted:
        return Tried(None, [])
    logger.info("trying %d operations, to be rolled back", len(wanted))
    return operations.try_operations(target.engine, resolved)


def _refuse_role(
    connection: sa.Connection, resolved: ResolvedMapping, *, as_superuser: bool
) -> None:
    """Refuse rights that nobody can take on, and to lend a superuser's to triggers.

    What operations write beside the stock is not known; where stock lies is.
    """
    role = resolved.mapping.acceptance.role or resolved.role
    found = connection.execute(_ROLE, {"role": role}).one_or_none()
    if found is None or not found.member:
        why = f"{resolved.role} is no member of it" if found else "there is no such role"
        raise CommandUnclear(
            f"acceptance.role: operations cannot be executed as {role}: {why}; name a role of the "
            "application, and grant it to whoever tries them"
        )
    if found.rolsuper and not as_superuser:
        tables = (resolved.source, resolved.locations, resolved.levels)
        oids = [relation.oid for relation in tables if relation is not None]
        lent = list(connection.execute(_LENT, {"oids": oids}).scalars())
        if lent:
            raise SuperuserRefused(role=role, triggers=lent)


def _verified(connection: sa.Connection, mapping: str) -> Migration:
    """The migration whose effect is tried."""
    last = None
    if ledger.installed(connection):
        last = ledger.current(connection, mapping) or ledger.find(connection, mapping=mapping)
    if last is None:
        raise NothingMigrated(mapping=mapping)
    if last.state != "verified":
        raise NotVerified(
            mapping=mapping,
            migration_id=last.migration_id,
            state=last.state,
            command=_NEXT[last.state].format(mapping),
        )
    return last


def _of_operations(tried: Tried) -> list[dict[str, Any]]:
    found = []
    for trial in tried.trials:
        if trial.error is not None:
            found.append(_finding("operation_failed", trial.name, trial.error["message"]))
        elif not trial.passed:
            found.append(_finding("operation_differs", trial.name, _differing(trial)))
    return found


def _differing(trial: Trial) -> str:
    """What was expected and observed, each with the totals of which that is so."""
    told, scopes = trial.to_json(), dict[str, list[str]]()
    for measure in MEASURES:
        for scope in SCOPES:
            expected, observed = (told[what][scope][measure] for what in ("expected", "observed"))
            if expected != observed:
                said = f"{measure.replace('_', ' ')} expected {expected}, observed {observed}"
                scopes.setdefault(said, []).append(scope.replace("_", " "))
    return "; ".join(f"{said} ({', '.join(where)})" for said, where in scopes.items())


def _of_queries(answered: list[Answered], mapping: StockMapping) -> list[dict[str, Any]]:
    found = []
    for answer in answered:
        name = answer.question.name
        if answer.error is not None:
            found.append(_finding("query_failed", name, answer.error["message"]))
        elif not answer.passed:
            rows = answer.rows or {}
            said = (
                f"{rows['only_before']} of {rows['before']} rows are no longer there, "
                f"{rows['only_after']} of {rows['after']} are new"
            )
            found.append(_finding("answers_differ", name, said))
        if answer.slower:
            said = (
                f"{answer.after_ms:.0f} ms, {answer.before_ms:.0f} ms before: more than "
                f"{mapping.acceptance.slower_than:g} times as long"
            )
            found.append(_finding("query_slower", name, said, severity="warning"))
    return found


def _finding(kind: str, subject: str, said: str, severity: str = "critical") -> dict[str, Any]:
    return {"severity": severity, "kind": kind, "subject": subject, "said": said}


_COMMENT = sa.text("SELECT obj_description(CAST(:oid AS oid), 'pg_class')")
_ROLE = sa.text(
    "SELECT rolsuper, pg_has_role(oid, 'MEMBER') AS member FROM pg_roles WHERE rolname = :role"
)
_LENT = sa.text("""
    SELECT t.tgname FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    JOIN pg_roles AS r ON r.oid = p.proowner
    WHERE t.tgrelid = ANY (:oids) AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND NOT r.rolsuper
    ORDER BY t.tgname
""").bindparams(sa.bindparam("oids", type_=sa.ARRAY(sa.BigInteger)))
