"""The manifest of an archive: what is in each of its files, of what, by whom and when.

It is written last, and an archive is nothing without it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inventory_migration.errors import ArchiveDiffers, ArchiveMissing

NAME = "manifest.json"
FORMAT = 1
"""The version of archives that this module writes and reads."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredColumn(_Part):
    """A column of a file.

    Attributes:
        name: Its name.
        type: The type that it had in the database.
        stored: The type that it has in the file, as pyarrow spells it.
        note: Why it is text, where its own type was none.
    """

    name: str
    type: str
    stored: str
    note: str | None = None


class Sum(_Part):
    """What the numbers of a column come to; NULL, NaN and Infinity are not among them."""

    sum: str
    counted: int


class StoredFile(_Part):
    """A file of an archive, such as a document of the report, as it was written.

    Attributes:
        file: Its name.
        sha256: Of its bytes.
        bytes: Its size.
    """

    file: str
    sha256: str
    bytes: int


class StoredTable(StoredFile):
    """A file with the rows of one table.

    Attributes:
        rows: How many rows it has.
        columns: Its columns, in order.
        sums: What the numbers of a column come to, by its name.
        digest: A sum over hashes of the rows, by which the database tells whether it still has the
            very same.
    """

    rows: int
    columns: list[StoredColumn]
    sums: dict[str, Sum]
    digest: str


class Manifest(_Part):
    """What an archive is of and what is in it.

    Attributes:
        format: The version of archives.
        mapping: The mapping's name.
        migration_id: The migration.
        state: What it had become.
        ended_at: When.
        last_event: The newest entry of its trail, by number.
        definition: The mapping as it was when the migration was planned.
        mapping_hash: The hash of that.
        summary: What the migration did, as `report --summary --json` says it.
        keep_archive: How long the archive is to be kept, as the mapping says it.
        keep_until: Until when that is.
        database: The database and server that it was copied from.
        tool_version: The version of the program that wrote it.
        ledger_version: The version of the ledger.
        created_at: When.
        created_by: The role and program.
        tables: The files with rows.
        documents: The documents of the report.
    """

    format: int = FORMAT
    mapping: str
    migration_id: int
    state: str
    ended_at: datetime
    last_event: int
    definition: dict[str, Any]
    mapping_hash: str
    summary: dict[str, Any]
    keep_archive: str | None
    keep_until: datetime | None
    database: dict[str, Any]
    tool_version: str
    ledger_version: int
    created_at: datetime
    created_by: str
    tables: list[StoredTable] = Field(min_length=1)
    documents: list[StoredFile] = Field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there are in all files."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """How large all files are."""
        return sum(part.bytes for part in self.parts)

    @property
    def parts(self) -> list[StoredFile]:
        """All files but the manifest."""
        return [*self.tables, *self.documents]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an archive.

    Raises:
        ArchiveMissing: There is none, so the folder is no archive.
        ArchiveDiffers: It is damaged, or of a version that is not known here.
    """
    try:
        text = (folder / NAME).read_bytes()
    except OSError as error:
        raise ArchiveMissing(folder=str(folder), why=error.strerror or str(error)) from None
    try:
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        problem = f"{NAME}: {where}: {first['msg']}"
        raise ArchiveDiffers(folder=str(folder), problems=[problem]) from None
    if found.format != FORMAT:
        problem = f"{NAME}: is of version {found.format}, and this program reads {FORMAT}"
        raise ArchiveDiffers(folder=str(folder), problems=[problem])
    return found
