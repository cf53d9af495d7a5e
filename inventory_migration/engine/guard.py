"""The guard trigger: a new record has its company's default location from its first moment.

It is installed before the snapshot, so that no record arrives unseen between the two, and it stays
once a migration is verified. It reads the application's companies and locations and never the
ledger, creates nothing, and adds no error of its own to the application's write: whatever it meets,
the record goes in as it came, and is the next sweep's. Timeouts of the application still end its
statement, and a location that is deleted at that very moment is still refused by a foreign key.

Levels have a trigger of their own, in `sync.py`.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import escaped, quoted
from inventory_migration.engine import canonical, columns, ledger, record_view, schema_change
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes import SourceColumns, shape_of

LOCK_TIMEOUT_MS = 50
"""How long an application's insert waits for a lock on our account, before it does without."""


def wanted(resolved: ResolvedMapping) -> bool:
    """Whether the mapping asks for the trigger."""
    return resolved.mapping.guard


def installed(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether the trigger is there and switched on, whatever the mapping says by now."""
    return bool(
        connection.execute(
            _INSTALLED, {"source": resolved.source.oid, "schema": SCHEMA, "name": _name(resolved)}
        ).scalar_one()
    )


def install(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """Put the trigger on the source table; behind it no writer is older than it.

    Raises:
        LockNotObtained: Others held the table all the while.
        MigrationError: Somebody asked to stop the migration; see `control.require`.
    """
    with engine.connect() as connection:
        first = not installed(connection, resolved)
        statements = install_statements(connection, resolved)
    schema_change.execute_briefly(
        engine,
        [escaped(statement) for statement in statements],
        what=f"put a trigger on {resolved.source.name}",
        migration_id=migration.migration_id,
        also=lambda connection: ledger.note(
            connection, "guard_installed", migration_id=migration.migration_id, first=first
        ),
    )


def install_statements(connection: sa.Connection, resolved: ResolvedMapping) -> list[str]:
    """The statements that install trigger and function."""
    function = quoted(SCHEMA, _name(resolved))
    return [
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        f"SECURITY DEFINER SET search_path = {schema_change.pinned_path(connection)} "
        f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms' "
        # Hidden locations would make two look like one; refused is better than misled.
        "SET row_security = off SET extra_float_digits = 3 "
        f"AS {schema_change.dollar_quoted(_body(resolved))}",
        # Nobody is to put it on a table of his own, whose types would be worked with as its owner.
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        # Triggers fire by name, and those of the application may set what is read here.
        f"CREATE OR REPLACE TRIGGER {quoted(f'zz_{_name(resolved)}')} BEFORE INSERT "
        f"ON {resolved.source.sql} FOR EACH ROW EXECUTE FUNCTION {function}()",
    ]


def remove_statement(resolved: ResolvedMapping) -> str:
    """The statement that takes the trigger away with its function, which needs no owned table."""
    return f"DROP FUNCTION IF EXISTS {quoted(SCHEMA, _name(resolved))} CASCADE"


def take_off(engine: sa.Engine, resolved: ResolvedMapping, migration: Migration) -> None:
    """End the trigger before a rollback walks, so that nothing is given that is being taken.

    Raises:
        LockNotObtained: Others held the table all the while; the rollback can be repeated.
    """
    with engine.connect() as connection:
        there = connection.execute(
            sa.text("SELECT to_regprocedure(:function) IS NOT NULL"),
            {"function": f"{quoted(SCHEMA, _name(resolved))}()"},
        ).scalar_one()
    if not there:
        return
    schema_change.execute_briefly(
        engine,
        [escaped(remove_statement(resolved))],
        what=f"take the guard trigger off {resolved.source.name}",
        also=lambda connection: ledger.note(
            connection, "guard_removed", migration_id=migration.migration_id
        ),
    )


def list_kept(connection: sa.Connection, resolved: ResolvedMapping, migration: Migration) -> None:
    """List the records that came with their location while the trigger was there, and keep it.

    No plan has them, so there is nothing to take them back to. Who gave a column its value is not
    written in it: one whom the application itself has put there is listed as well.
    """
    shape = shape_of(resolved)
    if not isinstance(shape, SourceColumns) or not _ever_installed(connection, migration):
        return
    theirs = "".join(
        f" AND NOT EXISTS (SELECT FROM {found.snapshot} AS p LEFT JOIN {SCHEMA}.outcome AS o "
        f"ON o.migration_id = {found.migration_id} AND o.position = p.position "
        f"WHERE {columns.same_key(resolved, 'p', 'r')} "
        f"AND (o.outcome IN ('already', 'gone') AND {since}) IS NOT TRUE)"
        for found, since in _snapshots(connection, resolved)
    )
    located = shape.same_location("r.default_location", "r.location_key")
    sql = f"""
        INSERT INTO {SCHEMA}.conflict (migration_id, position, key_text, kind, found)
        SELECT :im_migration_id,
               (SELECT COALESCE(max(position), 0) FROM {migration.snapshot})
               + row_number() OVER (ORDER BY {", ".join(f"r.{k}" for k in columns.keys(resolved))}),
               r.key_text, 'arrived_with_location',
               concat_ws(' ', {", ".join(shape.target_columns())})
        FROM ({canonical.records(resolved)}) AS r
        JOIN {resolved.source.sql} AS s ON {columns.key_of_source(resolved, "r")}
        WHERE r.location_own AND {located} AND {shape.signed()}{theirs}"""
    if resolved.target_exists and ledger.snapshot_exists(connection, migration):
        connection.execute(sa.text(parametrised(sql)), {"im_migration_id": migration.migration_id})


def _ever_installed(connection: sa.Connection, migration: Migration) -> bool:
    return bool(connection.execute(_EVER, {"mapping": migration.mapping}).scalar_one())


def _snapshots(connection: sa.Connection, resolved: ResolvedMapping) -> list[tuple[Migration, str]]:
    """The mapping's snapshots, and which rows `p` of them have come while the trigger was there."""
    facts = {
        row.migration_id: row
        for row in connection.execute(_GUARDED, {"mapping": resolved.mapping.name})
    }
    found = []
    for migration in record_view.alike(connection, resolved):
        row = facts[migration.migration_id]
        if row.first is None:
            since = "false"
        elif row.first and not migration.column_added:
            since = f"p.position > {row.planned}"
        else:
            # The column is not older than the trigger.
            since = "true"
        found.append((migration, since))
    return found


def _name(resolved: ResolvedMapping) -> str:
    return f"guard_{resolved.mapping.name}"


def _body(resolved: ResolvedMapping) -> str:
    """What happens to each new record.

    A condition of the trigger itself would be quicker than the first line, but would keep the
    application from changing the column's type, or dropping it.
    """
    shape = shape_of(resolved)
    assert isinstance(shape, SourceColumns)  # noqa: S101 - a mapping of levels has no guard
    values = shape.values(
        location="r.default_location",
        quantity="r.quantity",
        reserved="r.reserved",
        at="transaction_timestamp()",
    )
    given = ", ".join(
        f"CASE WHEN r.outcome = 'migrated' THEN {value} END AS given_{number}"
        for number, value in enumerate(values, start=1)
    )
    set_ = "\n        ".join(
        f"NEW.{quoted(name)} := im_given.given_{number};"
        for number, name in enumerate(resolved.mapping.target.columns, start=1)
    )
    records = canonical.new_records(
        resolved, table="(SELECT NEW.*)", duplicate=_duplicate(resolved)
    )
    return f"""
#variable_conflict use_column
DECLARE
    im_as_it_came record := NEW;
    im_given record;
BEGIN
    IF NOT ({shape.empty("NEW")}) THEN
        RETURN NEW;
    END IF;
    -- A join that finds several rows gives no location rather than any.
    SELECT r.outcome, {given} INTO STRICT im_given FROM ({records}) AS r;
    IF im_given.outcome = 'migrated' THEN
        {set_}
    END IF;
    RETURN NEW;
EXCEPTION
    WHEN OTHERS THEN
        RETURN im_as_it_came;
END """


def _duplicate(resolved: ResolvedMapping) -> str:
    """The condition that a record's company has its item already; asked only where it matters."""
    if resolved.mapping.rules.item_duplicate == "warn":
        return "false"
    rows = canonical.source_rows(resolved, hashed=False)
    return (
        f"EXISTS (SELECT FROM ({rows}) AS x WHERE x.company_key = r.company_key "
        "AND x.item_key = r.item_key AND x.skip_reason IS NULL)"
    )


_INSTALLED = sa.text("""
    SELECT EXISTS (
        SELECT FROM pg_trigger t
        JOIN pg_proc f ON f.oid = t.tgfoid
        JOIN pg_namespace n ON n.oid = f.pronamespace
        WHERE t.tgrelid = CAST(:source AS oid) AND t.tgenabled IN ('O', 'A')
          AND n.nspname = :schema AND f.proname = :name)
""")

_EVER = sa.text(f"""
    SELECT EXISTS (SELECT FROM {SCHEMA}.event AS e JOIN {SCHEMA}.migration AS m USING (migration_id)
                   WHERE e.kind = 'guard_installed' AND m.mapping = :mapping)
""")

_GUARDED = sa.text(f"""
    SELECT m.migration_id,
           (SELECT bool_or((e.detail->>'first')::boolean) FROM {SCHEMA}.event AS e
             WHERE e.migration_id = m.migration_id AND e.kind = 'guard_installed') AS first,
           (SELECT COALESCE(sum(k.records), 0) FROM {SCHEMA}.chunk AS k
             WHERE k.migration_id = m.migration_id
               AND k.phase <= jsonb_array_length(m.definition->'phases')) AS planned
    FROM {SCHEMA}.migration AS m
    WHERE m.mapping = :mapping
""")
