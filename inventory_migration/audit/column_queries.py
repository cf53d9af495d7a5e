"""The SELECTs that describe the columns of one table: one scan for all rows, one for a sample.

The first has what must be exact and costs little: counts, ranges, lengths. The second groups the
values of each column once and draws everything else from the groups. What a value means, and which
are not to be shown, is decided in `columns.py`; names are quoted, and nothing here runs anything.
"""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inventory_migration.database import quoted

SHOWN = 60
"""How much of a value is shown, in characters."""

LISTED = 5
"""How many values, shapes and examples are listed."""

SHAPES = 20
"""With more shapes than these, runs of a character are shown as one and a plus."""

LONG = 200
"""Of longer texts only the beginning is looked at."""

QUANTILES = (5, 25, 50, 75, 95)

FENCE = 3
"""How many interquartile ranges beyond the quartiles a value must lie to stand out."""

_NUMBER = r"^\s*[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?\s*$"
_DATE = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?$"
# Blanks, signs, a point and digits all sort before it, byte by byte.
_BEHIND_DIGITS = ":"
_ADDRESS = r"_%@_%.__%"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SHAPE = "A" * 26 + "a" * 26 + "9" * 10
_NO_NUMBERS = "'NaN', 'Infinity', '-Infinity'"


class Kind(StrEnum):
    """What can be asked of a column's values."""

    TEXT = "text"
    LABEL = "label"
    NUMBER = "number"
    MOMENT = "moment"
    ORDERED = "ordered"
    PLAIN = "plain"
    OPAQUE = "opaque"


@dataclass(frozen=True)
class Asked:
    """A column as the statements know it.

    Attributes:
        number: Its place, which names what the statements return about it.
        name: Its name.
        kind: What can be asked of its values.
        hidden: Whether no value of it may leave the server.
        identifies: Whether it is a key or refers to one, so that its values are no amounts.
    """

    number: int
    name: str
    kind: Kind
    hidden: bool = False
    identifies: bool = False


def overview(table: str, columns: Sequence[Asked]) -> str:
    """Of all rows: how many, and of each column filled ones, range, lengths, and oddities."""
    parts = ["count(*) AS records"]
    for column in columns:
        parts += _overview(column, f"s.{quoted(column.name)}")
    return f"SELECT {', '.join(parts)} FROM {table} AS s"


def _overview(column: Asked, name: str) -> Iterator[str]:
    number = column.number
    yield f"count({name}) AS filled_{number}"
    if column.kind == Kind.TEXT:
        # Patterns cannot be asked of a collation that takes different texts for the same.
        text = f'({name}::text COLLATE "C")'
        yield f"min(length({text})) AS shortest_{number}"
        yield f"max(length({text})) AS longest_{number}"
        # A pattern costs many times what it costs to see that no text that it fits begins so.
        for what, condition in (
            ("blank", f"btrim({text}) = ''"),
            ("numbers", f"{text} ~ '{_NUMBER}'"),
            ("dates", f"{text} ~ '{_DATE}'"),
        ):
            likely = f"CASE WHEN {text} < '{_BEHIND_DIGITS}' THEN {condition} END"
            yield f"count(*) FILTER (WHERE {likely}) AS {what}_{number}"
        yield f"count(*) FILTER (WHERE {text} LIKE '{_ADDRESS}') AS addresses_{number}"
    if column.hidden:
        return
    if column.kind == Kind.TEXT:
        yield f"left(min({text}), {SHOWN}) AS minimum_{number}"
        yield f"left(max({text}), {SHOWN}) AS maximum_{number}"
    elif column.kind in {Kind.NUMBER, Kind.MOMENT, Kind.ORDERED}:
        yield f"min({name})::text AS minimum_{number}"
        yield f"max({name})::text AS maximum_{number}"
    if column.kind == Kind.NUMBER and not column.identifies:
        # Without a type of its own the constant takes the column's, money as well.
        yield f"count(*) FILTER (WHERE {name} < '0') AS negative_{number}"


def distinct_values(table: str, columns: Sequence[Asked]) -> str | None:
    """How many values each comparable column has, of all rows; None where there is none such."""
    selects = [
        f"SELECT {column.number} AS number, count(*) AS values "
        f"FROM (SELECT DISTINCT s.{quoted(column.name)} AS v FROM {table} AS s) AS d "
        "WHERE v IS NOT NULL"
        for column in columns
        if column.kind != Kind.OPAQUE
    ]
    return " UNION ALL ".join(selects) or None


def details(rows: str, columns: Sequence[Asked]) -> str | None:
    """Of a sample, a row for each comparable column: what its values are, and how often.

    Args:
        rows: What stands in FROM with the alias `s`: the table, or a sample of it.
        columns: The columns to describe.
    """
    asked = [column for column in columns if column.kind != Kind.OPAQUE]
    if not asked:
        return None
    named = ", ".join(f"{_value(column)} AS c{column.number}" for column in asked)
    groups = ", ".join(
        f"h{c.number} AS MATERIALIZED (SELECT c{c.number} AS v, count(*) AS n FROM im_rows "
        f"WHERE c{c.number} IS NOT NULL GROUP BY 1)"
        for c in asked
    )
    return (
        f"WITH im_rows AS MATERIALIZED (SELECT {named} FROM {rows}), {groups} "
        + " UNION ALL ".join(map(_detail, asked))
    )


def _value(column: Asked) -> str:
    """A value as it is grouped; of a long text its beginning, and a hash that keeps it apart."""
    name = f"s.{quoted(column.name)}"
    if column.kind != Kind.TEXT:
        return name
    text = f'({name}::text COLLATE "C")'
    short = f"left({text}, {LONG}) || md5({text})"
    return f"CASE WHEN length({text}) > {LONG} THEN {short} ELSE {text} END"


def _detail(column: Asked) -> str:
    groups, kind = f"h{column.number}", column.kind
    amounts = kind in {Kind.NUMBER, Kind.MOMENT} and not column.identifies
    shown = not column.hidden
    texts = kind == Kind.TEXT and shown
    parts = {
        "number": str(column.number),
        "looked_at": "(SELECT count(*) FROM im_rows)",
        "values": f"(SELECT count(*) FROM {groups})",
        "top": _top(groups) if shown else _NOTHING,
        "quantiles": _quantiles(column) if shown and _is_ordered(column) else _NOTHING,
        "outliers": _outliers(groups, kind) if shown and amounts else _NOTHING,
        "shapes": _shapes(groups) if texts else _NOTHING,
        "variants": _variants(groups) if texts else _NOTHING,
        "fractional": (
            f"(SELECT COALESCE(sum(n), 0)::bigint FROM {groups} "
            f"WHERE v::text NOT IN ({_NO_NUMBERS}) AND v::numeric <> trunc(v::numeric))"
            if kind == Kind.NUMBER
            else "NULL::bigint"
        ),
    }
    return "SELECT " + ", ".join(f"{sql} AS {name}" for name, sql in parts.items())


_NOTHING = "NULL::jsonb"


def _is_ordered(column: Asked) -> bool:
    kinds = {Kind.NUMBER, Kind.MOMENT, Kind.ORDERED}
    return column.kind in kinds and not column.identifies


def _top(groups: str) -> str:
    return f"""(
        SELECT COALESCE(jsonb_agg(jsonb_build_array(left(v::text, {SHOWN}), n) ORDER BY n DESC, v),
                        '[]')
        FROM (SELECT v, n FROM {groups} ORDER BY n DESC, v LIMIT {LISTED}) AS f)"""


def _quantiles(column: Asked) -> str:
    wanted = ", ".join(str(share / 100) for share in QUANTILES)
    return f"""(
        SELECT to_jsonb(percentile_disc(ARRAY[{wanted}]) WITHIN GROUP (ORDER BY c{column.number})
                        ::text[])
        FROM im_rows)"""


def _outliers(groups: str, kind: Kind) -> str:
    """Values that are far from the middle half of all, where that half is no single value."""
    if kind == Kind.NUMBER:
        amount, finite = "v::numeric", f"v::text NOT IN ({_NO_NUMBERS})"
    else:
        amount, finite = "extract(epoch FROM v)::numeric", "isfinite(v)"
    return f"""(
        WITH a AS (SELECT v, n, {amount} AS x FROM {groups} WHERE {finite}),
        r AS (SELECT *, sum(n) OVER (ORDER BY x) / (sum(n) OVER ()) AS reached FROM a),
        q AS (SELECT min(x) FILTER (WHERE reached >= 0.25) AS low,
                     min(x) FILTER (WHERE reached >= 0.75) AS high FROM r),
        o AS (SELECT a.*, GREATEST(q.low - x, x - q.high) AS far FROM a, q
               WHERE q.high > q.low AND (x < q.low - {FENCE} * (q.high - q.low)
                                         OR x > q.high + {FENCE} * (q.high - q.low)))
        SELECT jsonb_build_object(
            'records', COALESCE(sum(n), 0),
            'examples', (SELECT COALESCE(jsonb_agg(v::text ORDER BY far DESC, x), '[]')
                         FROM (SELECT * FROM o ORDER BY far DESC, x LIMIT {LISTED}) AS e))
        FROM o)"""


def _shapes(groups: str) -> str:
    """What texts look like: A for a capital, a for a small letter, 9 for a digit, x for others."""
    shape = f"translate(left(v::text, {SHOWN}), '{_LETTERS}', '{_SHAPE}')"
    plain = f"CASE WHEN octet_length({shape}) = length({shape}) THEN {shape} "
    shape = plain + f"ELSE regexp_replace({shape}, '[^ -~]', 'x', 'g') END"
    runs = "shape"
    for character in ("A", "a", "9", "x"):
        runs = f"regexp_replace({runs}, '{character}{{2,}}', '{character}+', 'g')"
    return f"""(
        WITH p AS (SELECT {shape} AS shape, sum(n) AS n FROM {groups} GROUP BY 1),
        w AS (SELECT {runs} AS shape, sum(n) AS n FROM p
               WHERE (SELECT count(*) FROM p) > {SHAPES} GROUP BY 1
              UNION ALL SELECT shape, n FROM p WHERE (SELECT count(*) FROM p) <= {SHAPES})
        SELECT jsonb_build_object(
            'shapes', count(*),
            'top', (SELECT COALESCE(jsonb_agg(jsonb_build_array(shape, n) ORDER BY n DESC, shape),
                                    '[]')
                    FROM (SELECT * FROM w ORDER BY n DESC, shape LIMIT {LISTED}) AS t))
        FROM w)"""


def _variants(groups: str) -> str:
    """Texts that differ only in case and spaces, and texts that begin or end with a space."""
    few = f"jsonb_path_query_array(spelled, '$[0 to {LISTED - 1}]')"
    same = r"""lower(regexp_replace(btrim(v COLLATE "default"), '\s+', ' ', 'g'))"""
    return rf"""(
        WITH k AS (SELECT v, n, {same} AS same FROM {groups}),
        g AS (SELECT same, sum(n) AS n, jsonb_agg(left(v, {SHOWN}) ORDER BY n DESC, v)
                         AS spelled
              FROM k GROUP BY same HAVING count(*) > 1)
        SELECT jsonb_build_object(
            'groups', count(*), 'records', COALESCE(sum(n), 0),
            'spaced', (SELECT COALESCE(sum(n), 0) FROM k WHERE v ~ '^\s|\s$'),
            'examples', (SELECT COALESCE(jsonb_agg({few} ORDER BY n DESC, same), '[]')
                         FROM (SELECT * FROM g ORDER BY n DESC, same LIMIT {LISTED}) AS e))
        FROM g)"""
