"""The statements that ask the catalog what hangs on tables: one for each kind of object.

Each but the first returns kind, oid, name, definition, the columns that are used by table, and
facts that only this kind has. What becomes of the rows is in `dependencies.py`.
"""

# ruff: noqa: S608

from __future__ import annotations

import sqlalchemy as sa


def said(oid: str) -> str:
    """SQL of what a relation is called by a person: without its schema where that finds it."""
    return (
        f"(SELECT CASE WHEN pg_table_is_visible(x.oid) THEN x.relname::text "
        f"ELSE y.nspname || '.' || x.relname END "
        f"FROM pg_class x JOIN pg_namespace y ON y.oid = x.relnamespace WHERE x.oid = {oid})"
    )


def _columns(table: str, numbers: str) -> str:
    """SQL of the names of columns by their numbers, as a JSON array in the order of the table."""
    return (
        "COALESCE((SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a "
        f"WHERE a.attrelid = {table} AND a.attnum > 0 AND a.attnum = ANY({numbers})), '[]')"
    )


def _used(class_name: str, oid: str, table: str) -> str:
    """SQL of the numbers of a table's columns that an object depends on."""
    return (
        "ARRAY(SELECT u.refobjsubid FROM pg_depend u "
        f"WHERE u.classid = '{class_name}'::regclass AND u.objid = {oid} "
        f"AND u.refclassid = 'pg_class'::regclass AND u.refobjid = {table} AND u.refobjsubid > 0)"
    )


def _tables_used(class_name: str, oid: str) -> str:
    """SQL of those of the tables asked about that an object depends on."""
    return (
        "SELECT d.refobjid FROM pg_depend d "
        f"WHERE d.classid = '{class_name}'::regclass AND d.objid = {oid} "
        "AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(CAST(:oids AS oid[]))"
    )


PARTS = sa.text("""
    SELECT r.oid::bigint, r.oid::bigint
    FROM unnest(CAST(:oids AS oid[])) AS r(oid)
    UNION
    SELECT p.relid::oid::bigint, r.oid::bigint
    FROM unnest(CAST(:oids AS oid[])) AS r(oid)
    CROSS JOIN LATERAL pg_partition_tree(r.oid) AS p
""")

_CONSTRAINTS = sa.text(f"""
    SELECT CASE k.contype WHEN 'f' THEN 'foreign_key' WHEN 'c' THEN 'check' WHEN 'p' THEN 'primary'
                          WHEN 'u' THEN 'unique' WHEN 'x' THEN 'exclusion' ELSE 'not_null' END
               AS kind,
           k.oid::bigint AS oid, k.conname::text AS name,
           pg_get_constraintdef(k.oid, true) AS definition,
           CASE WHEN k.contype = 'f'
                THEN jsonb_build_object(k.confrelid::bigint::text,
                                        {_columns("k.confrelid", "k.confkey")})
                ELSE '{{}}' END
           || jsonb_build_object(k.conrelid::bigint::text,
               CASE WHEN k.contype = 'f' THEN {_columns("k.conrelid", "k.conkey")}
                    ELSE {
    _columns(
        "k.conrelid",
        f"(k.conkey || {_used('pg_constraint', 'k.oid', 'k.conrelid')}::smallint[] "
        f"|| {_used('pg_class', 'k.conindid', 'k.conrelid')}::smallint[])",
    )
} END) AS uses,
           jsonb_build_object(
               'table', k.conrelid::bigint, 'said', {said("k.conrelid")},
               'parent', NULLIF(k.confrelid, 0)::bigint,
               'parent_columns', {_columns("k.confrelid", "k.confkey")},
               'valid', k.convalidated,
               'on_delete', k.confdeltype, 'on_update', k.confupdtype,
               'enforced', COALESCE((to_jsonb(k) ->> 'conenforced')::boolean, true)) AS facts
    FROM pg_constraint k
    WHERE (k.conrelid = ANY(CAST(:oids AS oid[])) OR k.confrelid = ANY(CAST(:oids AS oid[])))
      AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
      AND (k.contype IN ('f', 'c', 'p', 'u', 'x') OR k.contype = 'n' AND NOT k.convalidated)
    ORDER BY k.conrelid, k.conname
""")

_INDEXES = sa.text(f"""
    SELECT 'index' AS kind, i.indexrelid::bigint AS oid, c.relname::text AS name,
           pg_get_indexdef(i.indexrelid) AS definition,
           jsonb_build_object(i.indrelid::bigint::text, {
    _columns(
        "i.indrelid",
        f"(i.indkey::smallint[] || {_used('pg_class', 'i.indexrelid', 'i.indrelid')}::smallint[])",
    )
}) AS uses,
           jsonb_build_object('table', i.indrelid::bigint, 'unique', i.indisunique,
                              'valid', i.indisvalid,
                              'method', m.amname) AS facts
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam
    WHERE i.indrelid = ANY(CAST(:oids AS oid[]))
      AND NOT EXISTS (SELECT FROM pg_constraint k
                      WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
      AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
    ORDER BY i.indrelid, c.relname
""")

_TRIGGERS = sa.text(f"""
    SELECT 'trigger' AS kind, t.oid::bigint AS oid, t.tgname::text AS name,
           pg_get_triggerdef(t.oid, true) AS definition,
           jsonb_build_object(t.tgrelid::bigint::text,
                              {_columns("t.tgrelid", "t.tgattr::smallint[]")}) AS uses,
           jsonb_build_object(
               'table', t.tgrelid::bigint, 'partition', NOT t.tgrelid = ANY(CAST(:roots AS oid[])),
               'regclass', t.tgrelid::regclass::text,
               'enabled', t.tgenabled, 'type', t.tgtype,
               'function', f.oid::regprocedure::text, 'ours', n.nspname = :ledger,
               'definer', f.prosecdef, 'owner', r.rolname,
               'owner_is_superuser', r.rolsuper) AS facts
    FROM pg_trigger t
    JOIN pg_proc f ON f.oid = t.tgfoid
    JOIN pg_namespace n ON n.oid = f.pronamespace
    JOIN pg_roles r ON r.oid = f.proowner
    WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgrelid = ANY(CAST(:oids AS oid[]))
    ORDER BY t.tgrelid, t.tgname
""")

_POLICIES = sa.text(f"""
    SELECT 'policy' AS kind, p.oid::bigint AS oid, p.polname::text AS name,
           concat_ws(' ', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
               'for', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                                    WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
               'to', (SELECT string_agg(COALESCE(r.rolname, 'PUBLIC'), ', ')
                      FROM unnest(p.polroles) AS u(oid) LEFT JOIN pg_roles r ON r.oid = u.oid),
               'USING (' || pg_get_expr(p.polqual, p.polrelid, true) || ')',
               'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid, true) || ')')
               AS definition,
           (SELECT jsonb_object_agg(t.oid::bigint::text,
                                    {_columns("t.oid", _used("pg_policy", "p.oid", "t.oid"))})
            FROM (SELECT p.polrelid AS oid
                  UNION {_tables_used("pg_policy", "p.oid")}) AS t) AS uses,
           jsonb_build_object('table', p.polrelid::bigint,
                              'on', c.relrowsecurity) AS facts
    FROM pg_policy p
    JOIN pg_class c ON c.oid = p.polrelid
    WHERE p.polrelid = ANY(CAST(:oids AS oid[]))
       OR EXISTS ({_tables_used("pg_policy", "p.oid")})
    ORDER BY p.polrelid, p.polname
""")

_RULES = sa.text(f"""
    SELECT 'rule' AS kind, r.oid::bigint AS oid, r.rulename::text AS name,
           pg_get_ruledef(r.oid, true) AS definition,
           (SELECT jsonb_object_agg(t.oid::bigint::text,
                                    {_columns("t.oid", _used("pg_rewrite", "r.oid", "t.oid"))})
            FROM (SELECT r.ev_class AS oid
                  UNION {_tables_used("pg_rewrite", "r.oid")}) AS t) AS uses,
           jsonb_build_object('table', r.ev_class::bigint, 'said', {said("r.ev_class")},
                              'partition', NOT r.ev_class = ANY(CAST(:roots AS oid[]))) AS facts
    FROM pg_rewrite r
    WHERE r.rulename <> '_RETURN'
      AND (r.ev_class = ANY(CAST(:oids AS oid[]))
           OR EXISTS ({_tables_used("pg_rewrite", "r.oid")}))
    ORDER BY r.ev_class, r.rulename
""")

_GENERATED = sa.text(f"""
    SELECT 'generated' AS kind, d.oid::bigint AS oid, a.attname::text AS name,
           pg_get_expr(d.adbin, d.adrelid, true) AS definition,
           jsonb_build_object(a.attrelid::bigint::text, {
    _columns("a.attrelid", _used("pg_attrdef", "d.oid", "a.attrelid"))
} - a.attname::text) AS uses,
           jsonb_build_object('table', a.attrelid::bigint) AS facts
    FROM pg_attribute a
    JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.attrelid = ANY(CAST(:oids AS oid[])) AND a.attgenerated <> '' AND NOT a.attisdropped
      AND (NOT c.relispartition OR a.attislocal)
    ORDER BY a.attrelid, a.attnum
""")

_SEQUENCES = sa.text(f"""
    SELECT 'sequence' AS kind, q.oid::bigint AS oid, {said("q.oid")} AS name,
           CASE a.attidentity WHEN '' THEN 'default of ' WHEN 'a' THEN 'always of '
                              ELSE 'identity of ' END || a.attname AS definition,
           jsonb_build_object(a.attrelid::bigint::text, jsonb_build_array(a.attname)) AS uses,
           jsonb_build_object('table', a.attrelid::bigint) AS facts
    FROM pg_attribute a
    LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                        AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
                        AND d.deptype IN ('a', 'i')
                     OR d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                        AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class q ON q.relkind = 'S'
                   AND q.oid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid
                                              ELSE d.refobjid END
    WHERE a.attrelid = ANY(CAST(:roots AS oid[]))
    GROUP BY q.oid, a.attrelid, a.attname, a.attnum, a.attidentity
    ORDER BY a.attrelid, a.attnum
""")

_PUBLICATIONS = sa.text("""
    SELECT 'publication' AS kind, p.oid::bigint AS oid, p.pubname::text AS name,
           concat_ws('; ', CASE WHEN p.puballtables THEN 'all tables' END,
                     'WHERE ' || (to_jsonb(t) ->> 'rowfilter')) AS definition,
           jsonb_build_object(c.oid::bigint::text, CASE WHEN listed.few THEN listed.columns
                                                        ELSE '[]' END) AS uses,
           jsonb_build_object(
               'updates', p.pubupdate, 'inserts', p.pubinsert,
               'columns', listed.few, 'identity', known.identity) AS facts
    FROM pg_publication_tables t
    JOIN pg_publication p ON p.pubname = t.pubname
    JOIN pg_namespace n ON n.nspname = t.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
    CROSS JOIN LATERAL (
        SELECT to_jsonb(t) -> 'attnames' AS columns,
               COALESCE(jsonb_array_length(to_jsonb(t) -> 'attnames')
                        < (SELECT count(*) FROM pg_attribute a
                           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                             AND a.attgenerated = ''), false) AS few) AS listed
    CROSS JOIN LATERAL (
        SELECT CASE c.relreplident
                   WHEN 'f' THEN true WHEN 'n' THEN false
                   ELSE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                                AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                                        ELSE i.indisprimary END)
               END AS identity) AS known
    WHERE c.oid = ANY(CAST(:oids AS oid[]))
    -- Of a table's partitions the last one decides, so one without an identity comes last.
    ORDER BY p.pubname, known.identity DESC, c.oid
""")

_ABOVE = sa.text(f"""
    SELECT CASE WHEN c.relispartition THEN 'partition_of' ELSE 'inherits' END AS kind,
           p.oid::bigint AS oid, {said("p.oid")} AS name,
           pg_get_expr(c.relpartbound, c.oid) AS definition,
           jsonb_build_object(c.oid::bigint::text, '[]'::jsonb) AS uses,
           jsonb_build_object('table', c.oid::bigint) AS facts
    FROM pg_inherits h
    JOIN pg_class c ON c.oid = h.inhrelid
    JOIN pg_class p ON p.oid = h.inhparent
    WHERE c.oid = ANY(CAST(:oids AS oid[])) AND NOT p.oid = ANY(CAST(:oids AS oid[]))
    ORDER BY p.oid
""")

_PARTITIONED = sa.text(f"""
    SELECT 'partitioned' AS kind, c.oid::bigint AS oid, {said("c.oid")} AS name,
           pg_get_partkeydef(c.oid) AS definition,
           jsonb_build_object(c.oid::bigint::text, {
    _columns(
        "c.oid", f"(p.partattrs::smallint[] || {_used('pg_class', 'c.oid', 'c.oid')}::smallint[])"
    )
}) AS uses,
           jsonb_build_object('table', c.oid::bigint) AS facts
    FROM pg_partitioned_table p
    JOIN pg_class c ON c.oid = p.partrelid
    WHERE c.oid = ANY(CAST(:oids AS oid[]))
    ORDER BY c.oid
""")

_ROW_SECURITY = sa.text(f"""
    SELECT 'row_security' AS kind, c.oid::bigint AS oid, {said("c.oid")} AS name,
           CASE WHEN c.relforcerowsecurity THEN 'also for its owner' ELSE 'not for its owner' END
               AS definition,
           jsonb_build_object(c.oid::bigint::text, '[]'::jsonb) AS uses,
           jsonb_build_object('table', c.oid::bigint, 'active', row_security_active(c.oid)) AS facts
    FROM pg_class c
    WHERE c.oid = ANY(CAST(:roots AS oid[])) AND c.relrowsecurity
    ORDER BY c.oid
""")

_GRANTS = sa.text("""
    SELECT CASE WHEN g.name IS NULL THEN 'grant' ELSE 'column_grant' END AS kind,
           c.oid::bigint AS oid, g.grantee AS name,
           string_agg(DISTINCT g.privilege, ', ' ORDER BY g.privilege) AS definition,
           jsonb_build_object(c.oid::bigint::text,
               COALESCE(jsonb_agg(DISTINCT g.name) FILTER (WHERE g.name IS NOT NULL), '[]'))
               AS uses,
           jsonb_build_object('table', c.oid::bigint) AS facts
    FROM pg_class c
    CROSS JOIN LATERAL (
        SELECT NULL::text AS name, COALESCE(r.rolname::text, 'PUBLIC') AS grantee,
               x.privilege_type AS privilege
        FROM aclexplode(c.relacl) AS x LEFT JOIN pg_roles r ON r.oid = x.grantee
        WHERE x.grantee <> c.relowner
        UNION ALL
        SELECT a.attname::text, COALESCE(r.rolname::text, 'PUBLIC'), x.privilege_type
        FROM pg_attribute a
        CROSS JOIN LATERAL aclexplode(a.attacl) AS x LEFT JOIN pg_roles r ON r.oid = x.grantee
        WHERE a.attrelid = c.oid AND NOT a.attisdropped AND x.grantee <> c.relowner) AS g
    WHERE c.oid = ANY(CAST(:roots AS oid[]))
    GROUP BY c.oid, g.grantee, g.name IS NULL
    ORDER BY c.oid, g.grantee
""")

_STATISTICS = sa.text(f"""
    SELECT 'statistics' AS kind, s.oid::bigint AS oid, s.stxname::text AS name,
           pg_get_statisticsobjdef(s.oid) AS definition,
           jsonb_build_object(s.stxrelid::bigint::text,
                              {_columns("s.stxrelid", "s.stxkeys::smallint[]")}) AS uses,
           jsonb_build_object('table', s.stxrelid::bigint) AS facts
    FROM pg_statistic_ext s
    WHERE s.stxrelid = ANY(CAST(:oids AS oid[]))
    ORDER BY s.stxrelid, s.stxname
""")

_EVENT_TRIGGERS = sa.text("""
    SELECT 'event_trigger' AS kind, e.oid::bigint AS oid, e.evtname::text AS name,
           concat_ws(' ', 'on', e.evtevent, 'of ' || array_to_string(e.evttags, ', '),
                     'executes', e.evtfoid::regprocedure::text) AS definition,
           '{}'::jsonb AS uses,
           jsonb_build_object('tags', e.evttags) AS facts
    FROM pg_event_trigger e
    WHERE e.evtenabled IN ('O', 'A') AND e.evtevent LIKE 'ddl%'
    ORDER BY e.evtname
""")

OBJECTS = (
    _CONSTRAINTS,
    _INDEXES,
    _TRIGGERS,
    _RULES,
    _GENERATED,
    _SEQUENCES,
    _PARTITIONED,
    _ABOVE,
    _ROW_SECURITY,
    _POLICIES,
    _PUBLICATIONS,
    _GRANTS,
    _STATISTICS,
    _EVENT_TRIGGERS,
)
