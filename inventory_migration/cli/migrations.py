"""The commands of a migration, in the order in which they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inventory_migration.cli import answers, outlook, rollbacks, statuses
from inventory_migration.cli.metrics import pushed
from inventory_migration.cli.session import Mappings, Name, Session, verb
from inventory_migration.cli.work_options import (
    AllSteps,
    AsSuperuser,
    MaxRowsPerSecond,
    NoWindow,
    Rewrite,
    StopAfter,
    Window,
    Workers,
    WriteStop,
)
from inventory_migration.errors import (
    CommandUnclear,
    MigrationError,
    MigrationPurged,
    NothingMigrated,
)

if TYPE_CHECKING:
    from rich.console import Console

    from inventory_migration import verbs
    from inventory_migration.mapping import StockMapping

REFUSED = 3

Record = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME] KEY",
        help="The mapping, and a stock record's key; the parts of a key of several columns are "
        "separated by commas.",
    ),
]
Role = Annotated[
    str | None,
    typer.Option(
        "--role",
        help="The role that the grants are for; by default the one connected, or else "
        "inventory_worker.",
    ),
]


@verb
def dry_run(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the statements for the DBA, and look no further.")
    ] = False,
    role: Role = None,
) -> int:
    """Say what a run would do, and whether its first gate would let it; writes nothing."""
    from inventory_migration import inquiries, verbs

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target()
    if sql:
        found = inquiries.statements_for(target, chosen, role=role)
        session.show(found.to_json() if session.json else found.script(), answers.script)
        return 0
    with session.watched():
        predicted = verbs.test(target, chosen)
    session.show(predicted, outlook.prediction)
    return 0 if predicted["gate"]["passed"] else REFUSED


@verb
def grants(
    session: Session, name: Name = None, mapping: Mappings = None, role: Role = None
) -> None:
    """Print what the tables' owner has to execute, and exactly what the worker's role needs."""
    from inventory_migration import inquiries

    chosen = session.mapping(name, session.mappings(mapping))
    found = inquiries.statements_for(session.target(), chosen, role=role)
    if session.json:
        shown = {key: value for key, value in found.to_json().items() if key != "writes"}
        session.show({"mapping": chosen.name, **shown}, answers.script)
    else:
        session.show(found.grants_script(), answers.script)


@verb
def run(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    stop_after: StopAfter = None,
    workers: Workers = None,
    max_rows_per_second: MaxRowsPerSecond = None,
    window: Window = False,
    rewrite: Rewrite = False,
    no_window: NoWindow = False,
    as_superuser: AsSuperuser = False,
    write_stop: WriteStop = False,
    all_steps: AllSteps = False,
) -> None:
    """Migrate: audit, default locations, stock, proof; each step behind its gate.

    What was interrupted is taken up; where nothing is new, nothing is changed.
    """
    _migrate(
        session,
        name,
        mapping,
        {
            "explicit": True,
            "stop_after": stop_after,
            "workers": workers,
            "max_rows_per_second": max_rows_per_second,
            "maintenance_window": window,
            "rewrite": rewrite,
            "no_window": no_window,
            "as_superuser": as_superuser,
            "write_stop": write_stop,
        },
        # Under a write stop there may be a verdict to make final, or a trigger to end.
        whole=all_steps or write_stop,
    )


@verb
def resume(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    stop_after: StopAfter = None,
    workers: Workers = None,
    max_rows_per_second: MaxRowsPerSecond = None,
    window: Window = False,
    rewrite: Rewrite = False,
    no_window: NoWindow = False,
    as_superuser: AsSuperuser = False,
    write_stop: WriteStop = False,
) -> None:
    """Go on with a migration that was paused or held."""
    _migrate(
        session,
        name,
        mapping,
        {
            "resume": True,
            "stop_after": stop_after,
            "workers": workers,
            "max_rows_per_second": max_rows_per_second,
            "maintenance_window": window,
            "rewrite": rewrite,
            "no_window": no_window,
            "as_superuser": as_superuser,
            "write_stop": write_stop,
        },
        whole=True,
    )


@verb
def show(
    session: Session,
    words: Record,
    mapping: Mappings = None,
) -> None:
    """Tell the story of one stock record: what became of it, and how it stands now."""
    from inventory_migration import inquiries

    chosen, key = name_and_key(session, words, mapping)
    session.show(inquiries.show_record(session.target(), chosen, key), answers.record)


@verb
def validate(session: Session, name: Name = None, mapping: Mappings = None) -> int:
    """Prove once more, from the data as it is now, that no unit was lost; writes nothing."""
    from inventory_migration import verbs

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target()
    with session.watched():
        found = verbs.validate(target, chosen)
    session.show(found, answers.validation)
    return 0 if found["passed"] else REFUSED


@verb
def report(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write it.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print the summary of the last migration too.")
    ] = False,
) -> None:
    """Write the report of the last migration, as HTML, Markdown and JSON."""
    from inventory_migration import inquiries

    chosen = session.mapping(name, session.mappings(mapping))
    target = session.target()
    found = inquiries.last_summary(target, chosen.name)
    if found["migration_id"] is None:
        raise NothingMigrated(mapping=chosen.name)
    if found["archived"] and not summary:
        kept = found["archived"]
        raise MigrationPurged(
            mapping=chosen.name,
            migration_id=found["migration_id"],
            path=kept["path"],
            when=kept["purged_at"][:10],
            what="no report is written of it any more, and the archive has the one that was",
        )
    with session.watched("writing the report"):
        # Seconds of imports, for the plots.
        from inventory_migration.report.documents import write_sealed

        found["report"], found["seal"] = write_sealed(target, chosen, out)
    session.show(found, answers.last_summary if summary else answers.report)


@verb
def rollback(
    session: Session,
    name: Name = None,
    mapping: Mappings = None,
    migration_id: Annotated[
        int | None, typer.Option("--id", metavar="N", help="Only this migration.")
    ] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option("--phase", metavar="PHASE", help="Only what is of this phase; repeatable."),
    ] = None,
    company: Annotated[
        list[str] | None,
        typer.Option("--company", metavar="KEY", help="Only this company's; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would go back and what would not; write nothing."),
    ] = False,
    workers: Workers = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Put every column back to what it was, migration by migration, newest first.

    A record that the application moved since is kept, and listed with what we wrote and what is
    there now. With --dry-run the exit code is 3 where there is one.
    """
    from inventory_migration import inquiries, verbs
    from inventory_migration.engine.undo_scope import Scope

    chosen = session.mapping(name, session.mappings(mapping))
    scope = Scope(phases=tuple(phase or ()), companies=tuple(company or ()))
    if dry_run:
        with session.watched():
            told = inquiries.foretell_rollback(
                session.target(), chosen, migration_id=migration_id, scope=scope
            )
        again = rollbacks.command(chosen.name, migration_id, scope)
        session.show(told, partial(rollbacks.foretold, scope=scope, again=again))
        return REFUSED if told["conflicts"] else 0
    target = session.target(writes=True)
    wanted = inquiries.undoable(target, chosen.name, migration_id=migration_id)
    if wanted and not session.confirm(rollbacks.undoing(chosen.name, wanted, scope), yes=yes):
        return 1
    with pushed(session, chosen), told_beside(session, target, chosen), session.watched():
        found = verbs.roll_back(
            target, chosen, migration_id=migration_id, scope=scope, workers=workers
        )
    finish(session, target, chosen, found, rollbacks.undone)
    return 0


COMMANDS = {
    "test": (dry_run, "stock_items"),
    "grants": (grants, "stock_items --role stock_mover"),
    "run": (run, "stock_items --stop-after pilot"),
    "resume": (resume, "stock_items"),
    "status": (statuses.status, "--watch"),
    "show": (show, "stock_items 4711"),
    "validate": (validate, "--mapping shop.yaml"),
    "report": (report, "stock_items --out reports"),
    "rollback": (rollback, "stock_items"),
}


def _migrate(
    session: Session,
    name: str | None,
    paths: list[Path] | None,
    options: dict[str, Any],
    *,
    whole: bool,
) -> None:
    """Run the mapping's Dagster job in this process, and say what it did."""
    from inventory_migration import inquiries

    given = session.mappings(paths)
    chosen = session.mapping(name, given)
    target = session.target(writes=True)
    with pushed(session, chosen):
        resume = bool(options.get("resume"))
        if not inquiries.is_startable(
            target,
            chosen,
            resume=resume,
            stop_after=options["stop_after"],
            write_stop=options["write_stop"],
            as_superuser=options["as_superuser"],
            rewrite=options["rewrite"],
            maintenance_window=options["maintenance_window"],
            max_rows_per_second=options["max_rows_per_second"],
        ):
            finish(session, target, chosen, inquiries.last_summary(target, chosen.name))
            return
        if not whole and inquiries.is_settled(target, chosen):
            _tell_settled(session, target, chosen)
            return
        if options["rewrite"]:
            cost = inquiries.rewrite_outlook(target, chosen)
            session.note(f"A rewrite {outlook.rewrite_cost('will', cost)}")
        with told_beside(session, target, chosen), session.watched():
            # Seconds of imports, which only the commands that need them pay.
            from inventory_migration.defs.launch import migrate

            launched = migrate(
                chosen, database_url=session.database_url, options=options, known=[*given.values()]
            )
            if launched.error is not None:
                raise launched.error
        found = launched.summary or inquiries.last_summary(target, chosen.name)
        if found.get("seal"):
            # The last step has written the report, and nothing has been done since.
            session.show(found, answers.summary)
        else:
            finish(session, target, chosen, found)


def _tell_settled(session: Session, target: verbs.Target, mapping: StockMapping) -> None:
    """Say that nothing is left to do, what was looked at, and where the report is."""
    from inventory_migration import inquiries

    found = inquiries.settled_summary(target, mapping)
    kept = inquiries.last_report(target, found)
    if kept is None:
        finish(session, target, mapping, found)
    else:
        session.show({**found, **kept}, answers.summary)


def name_and_key(
    session: Session, words: list[str], paths: list[Path] | None
) -> tuple[StockMapping, str]:
    """Tell a mapping, whose name may be left out where there is only one, from a record's key."""
    if len(words) > 2:
        raise CommandUnclear(f"give NAME and KEY, not {len(words)} words; quote a key with blanks")
    *names, key = words
    return session.mapping(names[0] if names else None, session.mappings(paths)), key


@contextmanager
def told_beside(session: Session, target: verbs.Target, mapping: StockMapping) -> Iterator[None]:
    """Tell programs what the migration did beside the condition that stops it."""
    from inventory_migration import inquiries

    before = inquiries.last_summary(target, mapping.name)
    try:
        yield
    except MigrationError as error:
        # The condition matters more than what is told beside it.
        with suppress(Exception):
            after = inquiries.last_summary(target, mapping.name)
            changed = {**after, "elapsed_seconds": before["elapsed_seconds"]} != before
            if changed or after["migration_id"] == getattr(error, "migration_id", None):
                session.so_far = {**after, "changed": changed}
            if changed and not session.json:
                session.show(session.so_far, answers.figures)
        raise


def finish(
    session: Session,
    target: verbs.Target,
    mapping: StockMapping,
    found: dict[str, Any],
    render: Callable[[Console, Any], None] = answers.summary,
) -> None:
    """Write the report of a mapping's last migration, and say what it did and where that is."""
    with session.watched("writing the report"):
        # Seconds of imports, for the plots.
        from inventory_migration.report.documents import write_sealed

        found["report"], found["seal"] = write_sealed(target, mapping)
    session.show(found, render)
