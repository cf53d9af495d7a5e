"""One table of the database into one file, as a stream: COPY in batches of bounded size.

A batch is parsed by pyarrow as it comes from the server, with types that were chosen for all rows
before, so that no value becomes an object of Python's on its way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psycopg
import sqlalchemy as sa

from inventory_migration.archive.manifest import StoredColumn
from inventory_migration.archive.types import arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_BYTES = 8 * 1024**2
BATCH_ROWS = 65_536


def write_table(
    connection: sa.Connection, sql: str, columns: Sequence[StoredColumn], path: Path
) -> None:
    """Write the rows of a query into a Parquet file that is on disk afterwards.

    Args:
        connection: A transaction that sees one moment and spells values plainly.
        sql: The query; its columns are those of `columns`.
        columns: Their types in the file.
        path: A file that is not there yet.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([pa.field(column.name, arrow_type(column.stored)) for column in columns])
    raw = cast(psycopg.Connection, connection.connection.driver_connection)
    copy_out = f"COPY ({sql}) TO STDOUT (FORMAT csv, FORCE_QUOTE *, ENCODING 'UTF8')"
    with path.open("xb") as file:
        with (
            parquet.ParquetWriter(file, schema, compression="zstd") as writer,
            raw.cursor() as cursor,
            cursor.copy(copy_out.encode()) as rows,
        ):
            for batch in _batches(rows):
                writer.write_table(_parsed(batch, schema))
        file.flush()
        os.fsync(file.fileno())


def _batches(rows: psycopg.Copy) -> Iterator[bytes]:
    """Whole rows, as many as make a batch: the server sends each in a piece of its own."""
    batch, number = bytearray(), 0
    for row in rows:
        batch += row
        number += 1
        if number == BATCH_ROWS or len(batch) >= BATCH_BYTES:
            yield bytes(batch)
            batch, number = bytearray(), 0
    if batch:
        yield bytes(batch)


def _parsed(batch: bytes, schema: pa.Schema) -> pa.Table:
    """The rows of a batch: NULL is nothing at all, and an empty text a pair of quotes."""
    import pyarrow as pa
    from pyarrow import csv

    # There is no way from CSV to the widest decimals but by way of text.
    wide = {field.name for field in schema if pa.types.is_decimal256(field.type)}
    types = {field.name: pa.string() if field.name in wide else field.type for field in schema}
    found = csv.read_csv(
        pa.BufferReader(batch),
        read_options=csv.ReadOptions(
            column_names=schema.names, block_size=len(batch) + 1, use_threads=False
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
    return found.cast(schema) if wide else found
