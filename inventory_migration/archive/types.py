"""Which type a column has in a file: the narrowest that keeps each of its values exactly.

What no such type can hold is kept as PostgreSQL spells it, and the manifest says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inventory_migration.engine.holdings import HeldColumn, Range

if TYPE_CHECKING:
    import pyarrow as pa

DIGITS = 76
"""The most digits of a decimal in a file."""

_PLAIN = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "float4": "float",
    "float8": "double",
}
_MOMENTS = {
    "date": "date32[day]",
    "timestamp": "timestamp[us]",
    "timestamptz": "timestamp[us, tz=UTC]",
}
_TEXTS = {"text", "varchar", "bpchar", "name"}


def stored_type(column: HeldColumn, found: Range | None) -> tuple[str, str | None]:
    """The type of a column's file, as pyarrow spells it, and why it is text where it is.

    Args:
        column: The column.
        found: What its values need.
    """
    base, found = column.base, found or Range()
    if base in _PLAIN:
        return _PLAIN[base], None
    if base in _MOMENTS:
        if not found.unusual:
            return _MOMENTS[base], None
        return "string", "has infinity, or years that are not of four digits"
    if base == "numeric":
        return _of_numbers(found)
    if base in _TEXTS:
        return "string", None
    return "string", f"{column.type} as PostgreSQL spells it"


def _of_numbers(found: Range) -> tuple[str, str | None]:
    if found.unusual:
        return "string", "has NaN or Infinity"
    least, most = found.scales or (0, 0)
    if least != most:
        return "string", f"has numbers with {least} and with {most} digits behind the point"
    digits = max(found.digits, 1) + most
    if digits > DIGITS:
        return "string", f"has numbers of {digits} digits"
    return f"decimal{128 if digits <= 38 else 256}({digits}, {most})", None


def arrow_type(name: str) -> pa.DataType:
    """The type that pyarrow spells so.

    Raises:
        ValueError: No column of ours has such a type.
    """
    import pyarrow as pa

    simple = {
        "bool": pa.bool_(),
        "int16": pa.int16(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "string": pa.string(),
        "date32[day]": pa.date32(),
        "timestamp[us]": pa.timestamp("us"),
        "timestamp[us, tz=UTC]": pa.timestamp("us", "UTC"),
    }
    if name in simple:
        return simple[name]
    if name.startswith("decimal"):
        width, _, rest = name.removeprefix("decimal").partition("(")
        digits, _, scale = rest.removesuffix(")").partition(",")
        made = pa.decimal128 if width == "128" else pa.decimal256
        return made(int(digits), int(scale))
    raise ValueError(f"no column of an archive is a {name}")
