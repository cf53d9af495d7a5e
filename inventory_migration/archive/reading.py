"""Reading an archive back, file by file, against its manifest; no database is needed.

What a manifest cannot say is whether it is itself the one that was written: its own SHA-256 is in
the ledger, and on whatever paper it was put.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from inventory_migration.archive.manifest import (
    NAME,
    Manifest,
    StoredFile,
    StoredTable,
    read_manifest,
)
from inventory_migration.archive.types import DIGITS
from inventory_migration.errors import ArchiveDiffers

if TYPE_CHECKING:
    import pyarrow as pa

_SUMMABLE = DIGITS - 20
"""How many digits numbers may have of which a batch is summed as it is."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def read_back(folder: Path) -> Manifest:
    """Read every file of an archive, and hold it against the manifest.

    Raises:
        ArchiveMissing: The folder is no archive.
        ArchiveDiffers: A file is missing, too much, or not what the manifest says; lists all.
    """
    manifest = read_manifest(folder)
    problems = []
    parts = {part.file: part for part in manifest.parts}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for name in sorted(parts.keys() - there):
        problems.append(f"{name}: is missing")
    for name in sorted(there - parts.keys() - {NAME}):
        problems.append(f"{name}: is not in the manifest")
    for name in sorted(parts.keys() & there):
        problems += [f"{name}: {problem}" for problem in _differences(folder / name, parts[name])]
    if problems:
        raise ArchiveDiffers(folder=str(folder), problems=problems)
    return manifest


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(path: Path, part: StoredFile) -> Iterator[str]:
    try:
        if path.stat().st_size != part.bytes:
            yield f"has {path.stat().st_size:,} bytes, and the manifest says {part.bytes:,}"
        elif sha256(path) != part.sha256:
            yield "its SHA-256 is not what the manifest says"
        elif isinstance(part, StoredTable):
            yield from _differences_of_rows(path, part)
    except OSError as error:
        yield f"can not be read: {error.strerror or error}"


def _differences_of_rows(path: Path, part: StoredTable) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            types = {column.name: column.stored for column in part.columns}
            if [(field.name, str(field.type)) for field in schema] != [*types.items()]:
                yield "its columns are not what the manifest says"
                return
            rows, sums = 0, {name: (Decimal(0), 0) for name in part.sums}
            for batch in file.iter_batches():
                rows += batch.num_rows
                for name, (total, counted) in sums.items():
                    more, number = _sum(batch.column(name), types[name])
                    sums[name] = (_EXACT.add(total, more), counted + number)
    except pa.ArrowException as error:
        yield f"can not be read as Parquet: {error}"
        return
    if rows != part.rows:
        yield f"has {rows:,} rows, and the manifest says {part.rows:,}"
    for name, (total, counted) in sums.items():
        said = part.sums[name]
        if (total, counted) != (Decimal(said.sum), said.counted):
            yield (
                f"its {name} comes to {total:f} in {counted:,} numbers, and the manifest says "
                f"{said.sum} in {said.counted:,}"
            )


def _sum(values: pa.Array, stored: str) -> tuple[Decimal, int]:
    """What the finite numbers of an array come to, and how many they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if stored.startswith("decimal") and values.type.precision <= _SUMMABLE:
        # A decimal's own sum would wrap at its width.
        wide = pa.decimal256(DIGITS, values.type.scale)
        return pc.sum(values.cast(wide)).as_py() or Decimal(0), len(values) - values.null_count
    numbers = [Decimal(number) for number in values.drop_null().to_pylist()]
    finite = [number for number in numbers if number.is_finite()]
    total = Decimal(0)
    for number in finite:
        total = _EXACT.add(total, number)
    return total, len(finite)
