"""The canonical names of keys and written columns, and how they meet the source table's own.

Only names and conditions over names belong here; the relations themselves are made in
`canonical.py`, and what is written into the columns is said by the shapes.
"""

from __future__ import annotations

from collections.abc import Iterable

from inventory_migration.catalog import FLOATS, INTEGERS, TEXTS, Column, ResolvedMapping
from inventory_migration.database import quoted

SHARING = ("shared_with", "shared_key")
"""How many other records would write a record's level, and the key of one of them."""


def keys(resolved: ResolvedMapping) -> list[str]:
    """The canonical names of the key columns: key_1, key_2, and so on."""
    return [f"key_{number}" for number, _ in enumerate(resolved.key_columns, start=1)]


def record_keys(resolved: ResolvedMapping) -> list[str]:
    """The canonical names of what names a level: record_1 and so on, or the record's own key."""
    if not resolved.target_key:
        return keys(resolved)
    return [f"record_{number}" for number, _ in enumerate(resolved.target_key, start=1)]


def record_values(resolved: ResolvedMapping) -> list[str]:
    """The same of a source row, as SQL."""
    if not resolved.target_key:
        return [f"s.{quoted(column.name)}" for column in resolved.key_columns]
    return [part.sql for part in resolved.target_key]


def named(resolved: ResolvedMapping) -> list[str]:
    """The canonical keys of a record, and of its level where these are others."""
    return list(dict.fromkeys([*keys(resolved), *record_keys(resolved)]))


def beside_key(resolved: ResolvedMapping) -> list[str]:
    """What a snapshot holds of a level's key where it is another than the record's: SHARING too."""
    return [*record_keys(resolved), *SHARING] if resolved.target_key else []


def same_record(resolved: ResolvedMapping, left: str, right: str) -> str:
    """The condition that two relations name the same level, but for its location."""
    return " AND ".join(f"{left}.{key} = {right}.{key}" for key in record_keys(resolved))


def same_key(resolved: ResolvedMapping, left: str, right: str) -> str:
    """The condition that two relations with canonical keys mean the same record."""
    return " AND ".join(f"{left}.{key} = {right}.{key}" for key in keys(resolved))


def key_of_source(resolved: ResolvedMapping, other: str, alias: str = "s") -> str:
    """The condition that a source row is the record of a relation with canonical keys."""
    pairs = zip(resolved.key_columns, keys(resolved), strict=True)
    return " AND ".join(f"{alias}.{quoted(column.name)} = {other}.{key}" for column, key in pairs)


def source_keys(resolved: ResolvedMapping, alias: str = "s") -> str:
    """The key columns of the source table, to order by."""
    return ", ".join(f"{alias}.{quoted(column.name)}" for column in resolved.key_columns)


def key_text(resolved: ResolvedMapping, alias: str = "", *, source: bool = False) -> str:
    """The key as one text, as records are told and asked for; without the blanks of char(n).

    Args:
        resolved: The mapping and its types.
        alias: The relation that has the key; empty where only one does.
        source: Whether that is the source table, whose columns have names of their own.
    """
    names = [quoted(c.name) for c in resolved.key_columns] if source else keys(resolved)
    before = f"{alias}." if alias else ""
    parts = [
        f"{before}{name}" + ("::text" if column.base_type == "character" else "")
        for name, column in zip(names, resolved.key_columns, strict=True)
    ]
    joined = f"concat_ws(', ', {', '.join(parts)})"
    # Of parts with different collations nobody could say which of them compares the whole.
    return f'({joined} COLLATE "default")' if len(parts) > 1 else joined


def spelling(key: str, parts: int) -> str:
    """A key as `key_text` spells it; the parts of a composite one may be given without blanks."""
    return ", ".join(part.strip() for part in key.split(",")) if parts > 1 else key


def written_columns(resolved: ResolvedMapping) -> list[str]:
    """The columns of the source table that are written: the target's, then what is touched."""
    return [*resolved.mapping.target.columns, *resolved.mapping.touch]


def before_columns(resolved: ResolvedMapping) -> dict[str, str]:
    """Name of each pre-image in the snapshot: what the target holds comes first."""
    mapping = resolved.mapping
    held = [*mapping.target.holds, *mapping.touch]
    return {name: f"before_{number}" for number, name in enumerate(held, start=1)}


def touched_columns(resolved: ResolvedMapping, alias: str = "s") -> list[str]:
    """The quoted columns of a source row that are set beside the target."""
    return [f"{alias}.{quoted(name)}" for name in resolved.mapping.touch]


def targets(resolved: ResolvedMapping, prefix: str) -> list[str]:
    """Names for what the target holds in a relation: target_1, written_1 and so on."""
    return [f"{prefix}_{number}" for number, _ in enumerate(resolved.mapping.target.holds, 1)]


def hash_of(found: Iterable[Column], alias: str) -> str:
    """A 64-bit hash of columns of a row."""
    values = [
        f"{alias}.{quoted(column.name)}" + ("" if column.base_type in _HASHABLE else "::text")
        for column in found
    ]
    return f"hash_record_extended(ROW({', '.join(values)}), 0)"


def all_same(left: list[str], right: list[str]) -> str:
    """The condition that two lists of values agree, NULLs included."""
    pairs = zip(left, right, strict=True)
    return "(" + " AND ".join(f"{a} IS NOT DISTINCT FROM {b}" for a, b in pairs) + ")"


# Types that hash_record_extended can take; all others are hashed by their text.
_HASHABLE = (
    INTEGERS
    | FLOATS
    | TEXTS
    | {
        "numeric",
        "boolean",
        "date",
        "timestamp without time zone",
        "timestamp with time zone",
        "time without time zone",
        "time with time zone",
        "interval",
        "uuid",
        "jsonb",
        "bytea",
    }
)
