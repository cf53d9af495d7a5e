"""What people do with records in quarantine: look at them, try them again, leave them in place.

Looking reads in transactions that cannot write. How records get into quarantine is in
`engine/isolation.py`, what the ledger says of them in `engine/quarantine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.engine import ledger, plan, quarantine, retries, summary
from inventory_migration.engine.plan import Start
from inventory_migration.engine.quarantine import Filter
from inventory_migration.errors import CommandUnclear, NothingMigrated, NotInQuarantine, nearest
from inventory_migration.mapping import StockMapping

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

LISTED = 50
"""How many records are listed where nobody says how many."""


def list_records(
    target: Target,
    mapping: str,
    *,
    rule: str | None = None,
    state: str | None = None,
    company: str | None = None,
    limit: int = LISTED,
) -> dict[str, Any]:
    """A mapping's records in quarantine: counted by rule and state, and the first of them.

    Args:
        target: The database.
        mapping: The mapping's name.
        rule: Only those that this rule has put there.
        state: Only those that are open, retried or waived.
        company: Only those of the company with this key.
        limit: How many records to list.

    Raises:
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: There is no such rule or company.
    """
    with _one_moment(target, mapping) as connection:
        problems = []
        if unknown := _unknown_rule(connection, mapping, rule):
            problems.append(unknown)
        if company is not None and company not in (
            companies := quarantine.known_companies(connection, mapping)
        ):
            problems.append(f"no company {company} was met{nearest(company, companies)}")
        if problems:
            raise NotInQuarantine(mapping=mapping, problems=problems)
        wanted = Filter(rule=rule, state=state, company=company)
        return quarantine.list_records(connection, mapping, wanted, limit=limit)


def show_record(target: Target, mapping: StockMapping, key: str) -> dict[str, Any]:
    """Everything about one record in quarantine; see `engine.quarantine.show_record`.

    Raises:
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: No record of this key is in quarantine; names the nearest that is.
    """
    with _one_moment(target, mapping.name) as connection:
        row = _required(connection, mapping.name, (key,))[key]
        return quarantine.show_record(connection, resolve(connection, mapping), row)


def waive(target: Target, mapping: str, keys: Sequence[str], *, reason: str) -> dict[str, Any]:
    """Accept that records stay where they are: no later migration tries them by itself.

    All of them or none. They no longer count against the mapping's threshold.

    Args:
        target: The database.
        mapping: The mapping's name.
        keys: The records' keys.
        reason: Why; kept with each record, and in the trail with who said so.

    Raises:
        CommandUnclear: There is no key, or no reason.
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: A record is not in quarantine, or is not open; lists all.
    """
    wanted = tuple(dict.fromkeys(keys))
    if not wanted:
        raise CommandUnclear("say which records stay where they are, by their keys")
    if not reason.strip():
        raise CommandUnclear("a waiver needs a reason; say it with --reason TEXT")
    ledger.bring_up_to_date(target.engine)
    with target.reader.connect() as connection:
        _require_migration(connection, mapping)
    with target.engine.begin() as connection:
        found = _required(connection, mapping, wanted)
        problems = [problem for key, row in found.items() if (problem := _not_waivable(key, row))]
        if problems:
            raise NotInQuarantine(mapping=mapping, problems=problems)
        if not quarantine.waive(connection, list(found.values()), reason=reason.strip()):
            changed = "a record was changed by somebody else at this moment"
            raise NotInQuarantine(mapping=mapping, problems=[changed])
    with _one_moment(target, mapping) as connection:
        left = quarantine.list_records(connection, mapping, Filter(state="open"), limit=0)
    return {
        "mapping": mapping,
        "waived": [row.key_text for row in found.values()],
        "reason": reason.strip(),
        "open": left["total"],
    }


def selection(
    keys: Sequence[str] = (), *, rule: str | None = None, everything: bool = False
) -> Filter:
    """Which records to try again: some by their keys, those of a rule, or all that are open.

    Raises:
        CommandUnclear: None of these was said, or several.
    """
    said = [bool(keys), rule is not None, everything]
    if sum(said) != 1:
        raise CommandUnclear(
            "say which records to try again: their keys, or --rule RULE, or --all"
            + (", and only one of these" if sum(said) > 1 else "")
        )
    return Filter(keys=tuple(dict.fromkeys(keys)), rule=rule)


def selected(target: Target, mapping: StockMapping, wanted: Filter) -> tuple[Filter, int]:
    """The records that a retry would take: by their keys as the ledger has them, and how many.

    Raises:
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: A record is not in quarantine, or out of it again; or there is no such
            rule.
        StartRefused: The mapping's last migration is not verified.
    """
    with _one_moment(target, mapping.name) as connection:
        resolved = resolve(connection, mapping)
        plan.refuse_retry(connection, resolved)
        _require_rule(connection, mapping.name, wanted.rule)
        found = _required(connection, mapping.name, wanted.keys)
        problems = [
            f"record {key} is out of quarantine ({row.decision})"
            for key, row in found.items()
            if row.state == "retried"
        ]
        if problems:
            raise NotInQuarantine(mapping=mapping.name, problems=problems)
        named = tuple(row.key_text for row in found.values())
        wanted = replace(wanted, keys=named)
        return wanted, retries.count_selectable(connection, resolved, wanted)


def retry(
    target: Target,
    mapping: StockMapping,
    wanted: Filter,
    *,
    workers: int | None = None,
    maintenance_window: bool = False,
    as_superuser: bool = False,
    write_stop: bool = False,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Try records in quarantine again, in a migration of their own with all its gates and proofs.

    What goes is migrated and out of quarantine; what does not stays in it, with the reason as it is
    now. As with every migration, what has arrived meanwhile is swept up.

    Args:
        target: The database.
        mapping: The mapping.
        wanted: What `selection` says; a waived record only by its key.
        workers: Threads; None leaves it to the server's size.
        maintenance_window: Nobody waits for the records, so that transactions may be longer.
        as_superuser: Triggers of the application may run with a superuser's rights.
        write_stop: The application's writes rest, so that the verdict can be final.
        run_id: The Dagster run that tries, kept with the migration.

    Returns:
        What `run` returns, and `retried`: how many records by outcome.

    Raises:
        NotInQuarantine: See `selected`.
        StartRefused: The mapping's last migration is not verified.
        MigrationError: Whatever stops a migration.
    """
    from inventory_migration import verbs

    ledger.bring_up_to_date(target.engine)
    wanted, records = selected(target, mapping, wanted)
    if not records:
        with _one_moment(target, mapping.name) as connection:
            last = ledger.current(connection, mapping.name)
            found = summary.summarize(connection, last, mapping=mapping.name, changed=False)
        return {**found, "retried": {}}
    start = Start(
        run_id=run_id,
        explicit=True,
        maintenance_window=maintenance_window,
        as_superuser=as_superuser,
        write_stop=write_stop,
        retry=wanted,
    )
    found = verbs.run(target, mapping, start, workers=workers)
    with target.reader.connect() as connection:
        tried = retries.outcomes(connection, found["migration_id"])
    return {**found, "retried": tried}


def _not_waivable(key: str, row: sa.Row[Any]) -> str | None:
    """Why a record cannot be waived; None where it can."""
    if row.state == "waived":
        return f"record {key} is waived already ({row.decision})"
    if row.state == "retried":
        return f"record {key} is out of quarantine ({row.decision})"
    if row.migration_state in {"rolling_back", "rolled_back"}:
        undone = row.migration_state.replace("_", " ")
        return (
            f"record {key} is of migration {row.migration_id}, which is {undone}, so that the next "
            "run decides about it anew"
        )
    return None


def _require_rule(connection: sa.Connection, mapping: str, rule: str | None) -> None:
    if problem := _unknown_rule(connection, mapping, rule):
        raise NotInQuarantine(mapping=mapping, problems=[problem])


def _unknown_rule(connection: sa.Connection, mapping: str, rule: str | None) -> str | None:
    known = quarantine.known_rules(connection, mapping)
    if rule is None or rule in known:
        return None
    return f"there is no rule {rule}{nearest(rule, sorted(known))}"


def _required(
    connection: sa.Connection, mapping: str, keys: tuple[str, ...]
) -> dict[str, sa.Row[Any]]:
    """The rows of these keys, all of which must be there."""
    found = quarantine.find_keys(connection, mapping, keys)
    problems = []
    for key in keys:
        if key not in found:
            known = quarantine.known_keys(connection, mapping, key)
            problems.append(f"no record {key} is in quarantine{nearest(key, known)}")
    if problems:
        raise NotInQuarantine(mapping=mapping, problems=problems)
    return found


@contextmanager
def _one_moment(target: Target, mapping: str) -> Iterator[sa.Connection]:
    """A read-only transaction that sees one moment of a ledger that knows the mapping."""
    with target.reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL row_security = off"))
        _require_migration(connection, mapping)
        yield connection


def _require_migration(connection: sa.Connection, mapping: str) -> None:
    if not ledger.installed(connection) or ledger.find(connection, mapping=mapping) is None:
        raise NothingMigrated(mapping=mapping)
