"""What hangs on objects of the ledger and is not the tool's: views, foreign keys, functions.

Whoever made them decides about them, so they are named, and never dropped along.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from inventory_migration.engine.ledger import SCHEMA


def dependents(connection: sa.Connection, relations: Sequence[str]) -> list[str]:
    """What depends on these relations of the ledger's schema and is none of them, as one names it.

    Args:
        connection: A connection; only read from.
        relations: Names of tables and views, without schema.
    """
    rows = connection.execute(_DEPENDENTS, {"schema": SCHEMA, "relations": [*relations]})
    return [*rows.scalars()]


_DEPENDENTS = sa.text("""
    WITH ours AS (
        SELECT c.oid, c.reltype FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relname = ANY(:relations)),
    types AS (
        SELECT reltype AS oid FROM ours
        UNION SELECT t.typarray FROM ours JOIN pg_type t ON t.oid = ours.reltype),
    hanging AS (
        SELECT d.classid, d.objid, d.objsubid FROM pg_depend d
        WHERE d.deptype = 'n'
          AND (d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM ours)
               OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM types)))
    SELECT DISTINCT CASE WHEN v.relkind = 'm' THEN format('materialized view %s', v.oid::regclass)
                         WHEN v.oid IS NOT NULL THEN format('view %s', v.oid::regclass)
                         ELSE pg_describe_object(h.classid, h.objid, h.objsubid) END AS name
    FROM hanging h
    LEFT JOIN pg_rewrite r ON h.classid = 'pg_rewrite'::regclass AND r.oid = h.objid
    LEFT JOIN pg_class v ON v.oid = r.ev_class
    LEFT JOIN pg_constraint k ON h.classid = 'pg_constraint'::regclass AND k.oid = h.objid
    LEFT JOIN pg_attrdef a ON h.classid = 'pg_attrdef'::regclass AND a.oid = h.objid
    LEFT JOIN pg_trigger g ON h.classid = 'pg_trigger'::regclass AND g.oid = h.objid
    WHERE COALESCE(v.oid, k.conrelid, a.adrelid, g.tgrelid,
                   CASE WHEN h.classid = 'pg_class'::regclass THEN h.objid END, 0)
          NOT IN (SELECT oid FROM ours)
    ORDER BY name
""")
