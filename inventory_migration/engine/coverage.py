"""Which records earlier migrations have dealt with, and what a new one would find to do.

The first migration of a mapping takes every record; a later one those that no verified migration
has seen, and those that could go now, because somebody mended or emptied them. What was waived is
left where it is. A migration that was purged says so by the keys that `purge.py` has left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped
from inventory_migration.engine import canonical, columns, ledger
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.mapping import StockLevel

PARTLY_UNDONE = "partly_undone"
"""The event that says that a part of a migration was rolled back."""

REFUSED_RULES = ("refused_by_server", "write_suppressed")
"""Rules that no expression foresees: such a record looks good until it is retried."""


_WAIVED = "o.state = 'waived'"


def dealt_with(connection: sa.Connection, resolved: ResolvedMapping) -> list[Migration]:
    """The target's migrations that say which records need no other one.

    A verified one says so of its whole snapshot, an aborted one of the records that were waived.
    """
    if not ledger.installed(connection):
        return []
    ids = connection.execute(
        sa.select(ledger.migration.c.migration_id)
        .where(
            ledger.migration.c.target == resolved.target,
            # A table that was dropped and made anew holds other records, whatever their keys.
            ledger.migration.c.source_oid == resolved.source.oid,
            sa.or_(
                ledger.migration.c.state == "verified",
                sa.and_(
                    ledger.migration.c.state == "aborted",
                    sa.exists().where(
                        ledger.outcome.c.migration_id == ledger.migration.c.migration_id,
                        ledger.outcome.c.state == "waived",
                    )
                    | sa.exists().where(
                        ledger.archive.c.migration_id == ledger.migration.c.migration_id,
                        ledger.archive.c.purged_at.is_not(None),
                    ),
                ),
            ),
        )
        .order_by(ledger.migration.c.migration_id)
    ).scalars()
    found = [ledger.find(connection, migration_id=migration_id) for migration_id in ids]
    return [migration for migration in found if migration is not None]


def dealt_with_beside(
    connection: sa.Connection, resolved: ResolvedMapping, migration: Migration
) -> list[Migration]:
    """The same and this migration, which may be one of them."""
    found = dealt_with(connection, resolved)
    return [*(m for m in found if m.migration_id != migration.migration_id), migration]


def partly_undone(connection: sa.Connection, mapping: str) -> Migration | None:
    """The migration of a mapping of which a part was rolled back since the last one was planned."""
    found = connection.execute(_PARTLY_UNDONE, {"mapping": mapping}).scalar()
    return None if found is None else ledger.find(connection, migration_id=found)


def never_seen(resolved: ResolvedMapping, covered: list[Migration]) -> str:
    """The condition that no snapshot of these migrations holds a record `r`.

    What was undone of a migration counts as never seen.
    """
    conditions = [
        _without(resolved, migration, _WAIVED)
        if migration.state == "aborted"
        else f"NOT EXISTS (SELECT FROM {_kept(migration)} "
        f"AND {columns.same_key(resolved, 'p', 'r')})"
        for migration in covered
    ]
    return " AND ".join(conditions) if conditions else "true"


def uncovered(resolved: ResolvedMapping, covered: list[Migration]) -> str:
    """The records that a new migration would take: never seen, or able to go now."""
    records, unseen = canonical.records(resolved), never_seen(resolved, covered)
    # Joined by OR, neither condition could be looked up by a join; and the few that are movable
    # are found before it is asked which of them were seen.
    return f"""
        SELECT r.* FROM ({records}) AS r WHERE {unseen}
        UNION ALL
        SELECT r.* FROM (SELECT r.* FROM ({records}) AS r
                         WHERE {_movable(resolved, covered)} OFFSET 0) AS r
        WHERE NOT ({unseen})"""


def _movable(resolved: ResolvedMapping, covered: list[Migration]) -> str:
    """The condition that a record `r` could go now, which was seen before."""
    rules = ", ".join(f"'{rule}'" for rule in REFUSED_RULES)
    refused = f"(o.state = 'open' AND o.rule IN ({rules}) OR {_WAIVED})"
    left_alone = "".join(
        f" AND {_without(resolved, m, _WAIVED if m.state == 'aborted' else refused)}"
        for m in covered
    )
    # A level that is gone was taken away by its application, whose number it was by then.
    given = "".join(
        f" AND NOT EXISTS (SELECT FROM {_kept(migration)} "
        f"AND {columns.same_key(resolved, 'p', 'r')} AND {_moved(migration)})"
        for migration in verified(covered)
        if isinstance(resolved.mapping.target, StockLevel)
    )
    return f"r.outcome = 'migrated'{left_alone}{given}"


def verified(found: list[Migration]) -> list[Migration]:
    """Those of some migrations that are verified."""
    return [migration for migration in found if migration.state == "verified"]


def _without(resolved: ResolvedMapping, migration: Migration, put_aside: str) -> str:
    """The condition that a migration has not put a record `r` aside in such a way."""
    if migration.purged:
        # Nothing of it was open any more, so what is put aside was waived.
        return (
            f"NOT EXISTS (SELECT FROM {migration.covered} AS p WHERE p.waived "
            f"AND {columns.same_key(resolved, 'p', 'r')})"
        )
    return (
        f"NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS o JOIN {migration.snapshot} AS p "
        f"ON p.position = o.position WHERE o.migration_id = {migration.migration_id} "
        f"AND {put_aside} AND {columns.same_key(resolved, 'p', 'r')})"
    )


def _kept(migration: Migration) -> str:
    """The rows `p` of a snapshot that were not undone: a FROM with its WHERE."""
    if migration.purged:
        return f"{migration.covered} AS p WHERE true"
    # In the middle of a sweep a row's new chunk is yet to be written.
    return (
        f"{migration.snapshot} AS p LEFT JOIN {SCHEMA}.chunk AS im_k "
        f"ON im_k.migration_id = {migration.migration_id} AND im_k.number = p.chunk "
        "WHERE im_k.state IS DISTINCT FROM 'undone'"
    )


def _moved(migration: Migration) -> str:
    """The condition that a migration has written the record `p` of its snapshot."""
    if migration.purged:
        return "p.moved"
    return (
        f"NOT EXISTS (SELECT FROM {SCHEMA}.outcome AS o "
        f"WHERE o.migration_id = {migration.migration_id} AND o.position = p.position)"
    )


def covered_keys(connection: sa.Connection, migration: Migration) -> str:
    """The SELECT of what has to be known of a migration without its snapshot: keys, and two flags.

    An aborted one says only what was waived.
    """
    keys = connection.execute(_KEYS, {"table": migration.snapshot}).scalars()
    only = "o.state = 'waived'" if migration.state == "aborted" else "true"
    return f"""
        SELECT {", ".join(f"p.{key}" for key in keys)},
               COALESCE(o.state = 'waived', false) AS waived, o.position IS NULL AS moved
        FROM {migration.snapshot} AS p
        LEFT JOIN {SCHEMA}.chunk AS im_k
          ON im_k.migration_id = {migration.migration_id} AND im_k.number = p.chunk
        LEFT JOIN {SCHEMA}.outcome AS o
          ON o.migration_id = {migration.migration_id} AND o.position = p.position
        WHERE im_k.state IS DISTINCT FROM 'undone' AND {only}"""


def has_work(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether a migration would do anything: the first always, later ones only for what is new."""
    covered = dealt_with(connection, resolved)
    return not verified(covered) or any(left_over(connection, resolved, covered))


def left_over(
    connection: sa.Connection,
    resolved: ResolvedMapping,
    covered: list[Migration],
    *,
    astray: bool = False,
) -> Iterator[int]:
    """Count what a later migration would find to do, what is cheap to count first.

    Args:
        connection: A connection; only read from.
        resolved: The mapping and its types.
        covered: What `dealt_with` says.
        astray: Whether a record counts as well that the rules put aside by now, and no migration
            has: a migration would leave it where it is, but nobody has been told.
    """
    records = f"({canonical.records(resolved)}) AS r WHERE"
    yield count_unplaced_companies(connection, resolved)
    yield count_never_seen(connection, resolved, covered)
    if astray and not _count(connection, f"{records} outcome IN ('migrated', 'quarantined')"):
        return
    yield _count(connection, f"{records} {_movable(resolved, covered)}")
    if astray:
        stray = "".join(f" AND {_without(resolved, m, 'true')}" for m in covered)
        yield _count(connection, f"{records} r.outcome = 'quarantined'{stray}")


def count_unplaced_companies(connection: sa.Connection, resolved: ResolvedMapping) -> int:
    """How many companies have no default location, or several."""
    rows = f"({canonical.companies(resolved)}) AS c WHERE c.default_locations <> 1"
    return _count(connection, rows)


def count_never_seen(
    connection: sa.Connection, resolved: ResolvedMapping, covered: list[Migration]
) -> int:
    """How many records no snapshot of these migrations holds."""
    # What stands in the target says nothing of whether a record was seen, and costs joins.
    rows = canonical.source_rows(replace(resolved, target_exists=False), hashed=False)
    return _count(connection, f"({rows}) AS r WHERE {never_seen(resolved, covered)}")


def _count(connection: sa.Connection, rows: str) -> int:
    # Not EXISTS: its plan hopes for an early end, and there is none where nothing is left. Nor
    # conditions joined by OR: no join looks them up.
    query = sa.text(f"SELECT count(*) FROM {escaped(rows)}")
    return int(connection.execute(query).scalar_one())


_KEYS = sa.text("""
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND NOT attisdropped AND attname ~ '^key_[0-9]+$'
    ORDER BY attnum
""")

_PARTLY_UNDONE = sa.text(f"""
    SELECT e.migration_id
    FROM {SCHEMA}.event AS e JOIN {SCHEMA}.migration AS m USING (migration_id)
    WHERE m.mapping = :mapping AND e.kind = '{PARTLY_UNDONE}'
      AND e.event_id > (SELECT max(p.event_id)
                        FROM {SCHEMA}.event AS p JOIN {SCHEMA}.migration AS n USING (migration_id)
                        WHERE n.mapping = :mapping AND p.kind = 'planned')
    ORDER BY e.event_id DESC
    LIMIT 1
""")
