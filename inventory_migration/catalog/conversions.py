r"""How columns of the source read as SQL: exact numbers, standardised texts, points in time.

No text whatever makes any of it raise: each cast stands behind a pattern and checks of range,
since PostgreSQL 14 and 15 have nothing to ask whether a cast would succeed. Blank text is no value,
like NULL. What becomes of a record whose text does not convert is decided by the rules, in
`engine/canonical.py`.

Patterns are matched under the collation "C", since one that is not deterministic refuses them, and
name characters beyond ASCII as `\u00a0`, so that they can be sent in any encoding.
"""

# ruff: noqa: S608

from __future__ import annotations

from inventory_migration.catalog.resolved import literal
from inventory_migration.catalog.tables import FLOATS, INTEGERS, TEXTS
from inventory_migration.database import quoted
from inventory_migration.mapping import (
    ColumnOrExpression,
    Expression,
    Numeric,
    Separators,
    Standardised,
    named_column,
    timestamps,
)

SHOWN = 80
"""How much of a text that does not convert is told."""

NOTHING_TOLD = "NULL::text"

_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?$"

# Endless digits would overflow numeric, and one such record fail the whole statement.
_LONGEST = 1000

_BLANK = r"\s\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_ALIKE = {" ": r" \u00a0\u2009\u202f", "'": r"'\u2019"}


def column_sql(column: ColumnOrExpression, alias: str = "s") -> str:
    """The SQL of a column or expression of the source, standardised where the mapping says so.

    NULL where a text does not convert.
    """
    if not isinstance(column, Standardised):
        return raw_sql(column, alias)
    text = _text(column, alias)
    conversion = column.conversion
    if conversion is None:
        return text
    if isinstance(conversion, Numeric):
        return _number_in_groups(text, conversion.numeric)
    return _point_in_time(text, timestamps.parsed(conversion.timestamptz), conversion.zone or "UTC")


def raw_sql(column: ColumnOrExpression, alias: str = "s") -> str:
    """The SQL of a column or expression of the source as the application has it."""
    name = named_column(column)
    if name is not None:
        return f"{quoted(alias)}.{quoted(name)}"
    assert isinstance(column, Expression | Standardised)  # noqa: S101 - for mypy
    return f"({column.sql})"


def number_sql(column: ColumnOrExpression, kind: str) -> str:
    """A number in numeric, exactly; NULL where it is none or not finite.

    Args:
        column: The column or expression.
        kind: Its type as the application has it, without modifier.
    """
    if isinstance(column, Standardised):
        if column.conversion is not None:
            return column_sql(column)
        kind = "text"
    sql = column_sql(column)
    if kind in INTEGERS:
        return f"{sql}::numeric"
    if kind in TEXTS:
        return f"CASE WHEN {_is_number(sql)} THEN btrim({sql})::numeric END"
    # A float's text round-trips; its own cast to numeric keeps 6 or 15 digits only.
    value = f"{sql}::text::numeric" if kind in FLOATS else f"{sql}::numeric"
    return f"CASE WHEN {_is_finite(sql)} THEN {value} END"


def number_state_sql(column: ColumnOrExpression, kind: str) -> str:
    """Whether there is a number: 'ok', 'missing' or 'not_a_number'; arguments as `number_sql`."""
    sql = raw_sql(column)
    if isinstance(column, Standardised):
        missing, good = _is_blank(column), f"{number_sql(column, kind)} IS NOT NULL"
    elif kind in INTEGERS:
        return f"CASE WHEN {sql} IS NULL THEN 'missing' ELSE 'ok' END"
    elif kind in TEXTS:
        missing = f"{sql} IS NULL OR btrim({sql}) COLLATE \"C\" = ''"
        good = _is_number(sql)
    else:
        missing, good = f"{sql} IS NULL", _is_finite(sql)
    return f"CASE WHEN {missing} THEN 'missing' WHEN {good} THEN 'ok' ELSE 'not_a_number' END"


def unread_number_sql(what: str, column: ColumnOrExpression, kind: str) -> str:
    """What a record has in the place of a number, to be told; NULL where it has one, or nothing."""
    if kind in INTEGERS and not isinstance(column, Standardised):
        return NOTHING_TOLD
    return _told(what, raw_sql(column), f"{number_state_sql(column, kind)} = 'not_a_number'")


def unconverted_sql(name: str, column: Standardised) -> str:
    """The text of a value that does not convert, to be told; NULL where it does, or is blank."""
    condition = f"{column_sql(column)} IS NULL AND NOT ({_is_blank(column)})"
    return _told(name, raw_sql(column), condition)


def _told(what: str, sql: str, condition: str) -> str:
    more = f"CASE WHEN length({sql}::text) > {SHOWN} THEN '...' ELSE '' END"
    text = f"'\"' || left({sql}::text, {SHOWN}) || {more} || '\"'"
    return f"CASE WHEN {condition} THEN {literal(what)} || ' ' || {text} END"


def _text(column: Standardised, alias: str = "s") -> str:
    """The text of a column after the steps that leave it one."""
    sql = f"{raw_sql(column, alias)}::text"
    for step in column.text_steps:
        sql = _STEPS[step](sql)
    return sql


def _trimmed(sql: str) -> str:
    return _replaced(sql, f"^[{_BLANK}]+|[{_BLANK}]+$", "")


def _with_single_spaces(sql: str) -> str:
    return _replaced(sql, f"[{_BLANK}]+", " ")


def _replaced(sql: str, pattern: str, by: str) -> str:
    replaced = f"regexp_replace({sql} COLLATE \"C\", {literal(pattern)}, '{by}', 'g')"
    # "C" knows ASCII alone, which would show in upper().
    return f'({replaced} COLLATE "default")'


def _in_capitals(sql: str) -> str:
    return f"upper({sql})"


_STEPS = {"trim": _trimmed, "collapse_space": _with_single_spaces, "upper": _in_capitals}


def _is_blank(column: Standardised) -> str:
    text = _text(column)
    return f'{text} IS NULL OR {text} COLLATE "C" !~ {literal(f"[^{_BLANK}]")}'


def _is_number(sql: str) -> str:
    return f"(length({sql}) < {_LONGEST} AND btrim({sql}) COLLATE \"C\" ~ '{_NUMBER}')"


def _is_finite(sql: str) -> str:
    return f"{sql}::text NOT IN ('NaN', 'Infinity', '-Infinity')"


def _number_in_groups(sql: str, separators: Separators) -> str:
    thousands = _ALIKE.get(separators.thousands, separators.thousands)
    digits = f"([0-9]+|[0-9]{{1,3}}([{thousands}][0-9]{{3}})+)"
    decimals = f"[{separators.decimal}]"
    pattern = f"^[+-]?({digits}({decimals}[0-9]*)?|{decimals}[0-9]+)([eE][+-]?[0-9]{{1,3}})?$"
    bare = f"regexp_replace(im_v.t, {literal(f'[{thousands}]')}, '', 'g')"
    return f"""(
        SELECT CASE WHEN length(im_v.t) < {_LONGEST} AND im_v.t ~ {literal(pattern)}
                    THEN replace({bare}, '{separators.decimal}', '.')::numeric END
        FROM (SELECT {_trimmed(sql)} COLLATE "C" AS t OFFSET 0) AS im_v)"""


def _point_in_time(sql: str, wanted: timestamps.Format, zone: str) -> str:
    """A text that is the whole of a format, of a day and a time of day that there are."""
    places = {pattern: number for number, pattern in enumerate(wanted.patterns, start=1)}

    def number(pattern: str) -> str:
        return f"im_f.g[{places[pattern]}]::integer" if pattern in places else "0"

    year, month, day = (number(pattern) for pattern in ("YYYY", "MM", "DD"))
    hour, limits = number("HH24"), [f"{number('HH24')} < 24"]
    if "HH12" in places:
        hour = (
            f"({number('HH12')} % 12 + CASE WHEN lower(im_f.g[{places['AM']}]) = 'pm' "
            "THEN 12 ELSE 0 END)"
        )
        limits = [f"{number('HH12')} BETWEEN 1 AND 12"]
    limits += [f"{number(pattern)} < 60" for pattern in ("MI", "SS", "TZM")]
    limits += [f"{year} > 0", f"{month} BETWEEN 1 AND 12"]
    last_day = f"extract(day FROM make_date({year}, {month}, 1) + interval '1 month - 1 day')"
    fraction = next((p for p in ("MS", "US") if p in places), None)
    microseconds = f"rpad(im_f.g[{places[fraction]}], 6, '0')::integer" if fraction else "0"
    local = (
        f"make_timestamp({year}, {month}, {day}, {hour}, {number('MI')}, {number('SS')}) "
        f"+ {microseconds} * interval '1 microsecond'"
    )
    if "TZH" in places:
        limits.append(f"abs({number('TZH')}) < 16")
        sign = f"CASE WHEN im_f.g[{places['TZH']}] ~ '^-' THEN -1 ELSE 1 END"
        offset = f"make_interval(mins => ({sign}) * (abs({number('TZH')}) * 60 + {number('TZM')}))"
        local, zone = f"{local} - {offset}", "UTC"
    there = f"im_l.local AT TIME ZONE {literal(zone)}"
    # A local time that a change of the clocks leaves out does not come back as it was.
    return f"""(
        SELECT CASE WHEN ({there}) AT TIME ZONE {literal(zone)} = im_l.local THEN {there} END
        FROM (
            SELECT CASE WHEN im_f.g IS NULL OR NOT ({" AND ".join(limits)}) THEN NULL
                        WHEN {day} BETWEEN 1 AND {last_day} THEN {local} END AS local
            FROM (SELECT regexp_match({_trimmed(sql)} COLLATE "C", {literal(wanted.expression)})
                  OFFSET 0) AS im_f(g) OFFSET 0) AS im_l)"""
