"""The trigger that keeps levels in step with their records while an application writes.

It is installed before the snapshot and taken away at the cut-over or by a rollback. Every write of
a record writes its level in the same transaction: inserted without any condition on what the writer
can see, so that one who is older than a level gets a serialization failure instead of losing his
update, and one who is older than a level's undoing writes one that is known as ours. Levels of
others are left alone: what is ours stands in a table of its own.

What escapes the trigger, such as order lines that change without their record, is put right by
`refresh`, in both directions.
"""

from __future__ import annotations

import sqlalchemy as sa

from inventory_migration.catalog import ResolvedMapping
from inventory_migration.database import quoted
from inventory_migration.engine import canonical, columns, ledger, schema_change
from inventory_migration.engine.failures import Action, action_for, sqlstate
from inventory_migration.engine.ledger import SCHEMA, Migration
from inventory_migration.engine.parameters import parametrised
from inventory_migration.engine.shapes.stock_level import StockLevel as Shape
from inventory_migration.mapping import StockLevel


def wanted(resolved: ResolvedMapping) -> bool:
    """Whether the mapping asks for the trigger."""
    target = resolved.mapping.target
    return isinstance(target, StockLevel) and target.sync


def installed(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether both triggers are there and switched on."""
    return bool(
        connection.execute(
            _INSTALLED, {"source": resolved.source.oid, "schema": SCHEMA, "name": _name(resolved)}
        ).scalar_one()
    )


def keeps_in_step(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether levels follow their records at this moment: the trigger is asked for, and there."""
    return wanted(resolved) and installed(connection, resolved)


def install_statements(connection: sa.Connection, resolved: ResolvedMapping) -> list[str]:
    """The statements that install trigger, function and the table of what is ours."""
    keys = zip(columns.keys(resolved), resolved.key_columns, strict=True)
    own = Shape(resolved).own()
    function = quoted(SCHEMA, _name(resolved))
    triggers = [
        f"CREATE OR REPLACE TRIGGER {quoted(f'zz_{_name(resolved)}_{event}')} {when} "
        f"ON {resolved.source.sql} FOR EACH ROW EXECUTE FUNCTION {function}()"
        for event, when in (("write", "AFTER INSERT OR UPDATE"), ("delete", "BEFORE DELETE"))
    ]
    return [
        f"CREATE TABLE IF NOT EXISTS {own} "
        f"({', '.join(f'{key} {column.type} NOT NULL' for key, column in keys)}, "
        f"location_key {resolved.location_key_type} NOT NULL, row_hash bigint, "
        f"PRIMARY KEY ({', '.join(columns.keys(resolved))}))",
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        f"SECURITY DEFINER SET search_path = {schema_change.pinned_path(connection)} "
        f"AS {schema_change.dollar_quoted(_body(resolved))}",
        # Nobody is to put it on a table of his own, whose types would be worked with as its owner.
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
        *triggers,
    ]


def refresh(connection: sa.Connection, resolved: ResolvedMapping) -> int:
    """Put levels right that their records have left behind, and take those of none away.

    Returns:
        How many levels were written or taken away. One that its table refuses stays as it is, and
        is a difference.
    """
    shape = Shape(resolved)
    changed = 0
    for sql in (_forward(resolved, shape), _backward(resolved, shape)):
        savepoint = connection.begin_nested()
        try:
            connection.execute(sa.text("SET LOCAL lock_timeout = '500ms'"))
            changed += connection.execute(sa.text(parametrised(sql))).rowcount
            connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
        except sa.exc.DBAPIError as error:
            savepoint.rollback()
            if action_for(sqlstate(error)) not in {Action.RETRY, Action.ISOLATE}:
                raise
            continue
        savepoint.commit()
    return changed


def drop_trigger(resolved: ResolvedMapping) -> str:
    """The statement that takes the trigger away; it waits for every transaction that fired it."""
    return f"DROP FUNCTION IF EXISTS {quoted(SCHEMA, _name(resolved))} CASCADE"


def drop_own(resolved: ResolvedMapping) -> str:
    """The statement that forgets which levels are ours."""
    return f"DROP TABLE IF EXISTS {Shape(resolved).own()}"


def own_levels(connection: sa.Connection, resolved: ResolvedMapping) -> bool:
    """Whether the table of what is ours is there."""
    return bool(
        connection.execute(
            sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": Shape(resolved).own()}
        ).scalar_one()
    )


def join_own(resolved: ResolvedMapping, alias: str, record: str) -> str:
    """What joins the records of a relation to what is ours: location_key, row_hash."""
    same = columns.same_key(resolved, alias, record)
    return f"LEFT JOIN {Shape(resolved).own()} AS {alias} ON {same}"


def was_cut_over(connection: sa.Connection, mapping: str) -> Migration | None:
    """The migration at whose end the application took the levels over; None where it has not."""
    found = connection.execute(
        sa.select(ledger.migration.c.migration_id)
        .join(ledger.event, ledger.event.c.migration_id == ledger.migration.c.migration_id)
        .where(
            ledger.migration.c.mapping == mapping,
            ledger.migration.c.state == "verified",
            ledger.event.c.kind == "cut_over",
        )
        .limit(1)
    ).scalar()
    return None if found is None else ledger.find(connection, migration_id=found)


def _name(resolved: ResolvedMapping) -> str:
    return f"sync_{resolved.mapping.name}"


def _body(resolved: ResolvedMapping) -> str:
    """What happens on each write of a record.

    A level's own constraints must not stop the application from writing its record: the level then
    stays behind, and the proof says so.
    """
    shape = Shape(resolved)
    new = " AND ".join(
        f"r.{key} = NEW.{quoted(column.name)}"
        for key, column in zip(columns.keys(resolved), resolved.key_columns, strict=True)
    )
    old = " AND ".join(
        f"y.{key} = OLD.{quoted(column.name)}"
        for key, column in zip(columns.keys(resolved), resolved.key_columns, strict=True)
    )
    own = shape.own()
    keys = ", ".join(columns.keys(resolved))
    return f"""
BEGIN
    IF TG_OP = 'DELETE' THEN
        WITH gone AS (DELETE FROM {own} AS y WHERE {old} RETURNING y.*)
        DELETE FROM {resolved.levels_sql} AS t USING gone AS y WHERE {shape.is_own("t", "y")};
        RETURN OLD;
    END IF;
    WITH classified AS MATERIALIZED (
        SELECT r.* FROM ({canonical.new_records(resolved)}) AS r WHERE {new}),
    elsewhere AS (
        DELETE FROM {resolved.levels_sql} AS t USING {own} AS y, classified AS c
        WHERE {shape.is_own("t", "y")} AND {columns.same_key(resolved, "y", "c")}
          AND c.outcome = 'migrated' AND y.location_key <> c.default_location),
    inserted AS ({shape.insert_missing()}),
    -- Asked first: an older snapshot still sees the level that an undoing has taken.
    followed AS (
        UPDATE {resolved.levels_sql} AS t SET {shape.numbers_from("c")}
        FROM {own} AS y, classified AS c
        WHERE NOT EXISTS (SELECT FROM inserted)
          AND {shape.is_own("t", "y")} AND {columns.same_key(resolved, "y", "c")}
          AND c.quantity IS NOT NULL
          AND (c.outcome IS NULL OR y.location_key = c.default_location))
    INSERT INTO {own} AS y ({keys}, location_key, row_hash)
    SELECT {keys}, location_key, row_hash FROM inserted
    ON CONFLICT ({keys}) DO UPDATE
        SET location_key = EXCLUDED.location_key, row_hash = EXCLUDED.row_hash;
    RETURN NEW;
EXCEPTION
    WHEN integrity_constraint_violation OR data_exception OR with_check_option_violation
         OR raise_exception THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END """


def _forward(resolved: ResolvedMapping, shape: Shape) -> str:
    rows = canonical.source_rows(resolved)
    return f"""
        UPDATE {resolved.levels_sql} AS t SET {shape.numbers_from("c")}
        FROM {shape.own()} AS y, ({rows}) AS c
        WHERE {shape.is_own("t", "y")} AND {columns.same_key(resolved, "y", "c")}
          AND c.target_rows = 1 AND c.quantity IS NOT NULL
          AND (c.held_quantity IS DISTINCT FROM c.quantity
               OR c.held_reserved IS DISTINCT FROM c.reserved)"""


def _backward(resolved: ResolvedMapping, shape: Shape) -> str:
    return f"""
        WITH gone AS (
            DELETE FROM {shape.own()} AS y
            WHERE NOT EXISTS (SELECT FROM {resolved.source.sql} AS s
                              WHERE {columns.key_of_source(resolved, "y")})
            RETURNING y.*)
        DELETE FROM {resolved.levels_sql} AS t USING gone AS y
        WHERE {shape.is_own("t", "y")} AND {shape.rest_same("y.row_hash")}"""


_INSTALLED = sa.text("""
    SELECT count(*) = 2
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE t.tgrelid = CAST(:source AS oid) AND t.tgenabled IN ('O', 'A')
      AND n.nspname = :schema AND f.proname = :name
""")
