"""An archive holds every value as it was, is found out where it does not, and is whole or not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from inventory_migration import keeping, verbs
from inventory_migration.archive import files, folder, manifest, reading, types
from inventory_migration.database import quoted
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine import ledger
from inventory_migration.engine.holdings import HeldColumn, Range
from inventory_migration.errors import (
    ArchiveDiffers,
    ArchiveMissing,
    ArchiveNotWritten,
    LedgerNotOwned,
    NothingToArchive,
)
from inventory_migration_tests import hostile, stage
from inventory_migration_tests.commands import answer, im, mapping_file, sentence
from inventory_migration_tests.conftest import Database, made_database

KEY = {
    "k_int": "integer",
    "k_uuid": "uuid",
    "k_text": "text",
    "k_char": "char(12)",
    "k_money": "numeric(12, 2)",
    "k_huge": "numeric(60, 3)",
    "k_any": "numeric",
    "k_nan": "numeric",
    "k_at": "timestamptz",
    "k_ever": "timestamptz",
    "k_wall": "timestamp",
    "k_day": "date",
    "k_bc": "date",
    "k_time": "time",
    "k_span": "interval",
    "k_bool": "boolean",
    "k_real": "real",
    "k_double": "double precision",
    "k_bytes": "bytea",
    "k_array": "text[]",
    "k_json": "jsonb",
    "k_mood": "mood",
    "k_name": "label",
    "k_address": "inet",
}
"""A key of every kind of type, so that a snapshot has a column of each."""

ROWS = f"""
    SELECT n, md5(n::text)::uuid, (ARRAY[{", ".join(map(hostile.text, hostile.SPELLS))}])[n],
           'pad' || n, n / 4.0, (-1) ^ n * 10 ^ 56::numeric - n / 8.0, n / (10.0 ^ (n % 7)),
           CASE n % 3 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE '12.500' END::numeric,
           '2026-11-27 10:52:01.000001+05:45'::timestamptz + n * interval '1 microsecond',
           CASE n % 2 WHEN 0 THEN 'infinity' ELSE '0044-03-15 12:00:00 BC' END::timestamptz,
           '9999-12-30 23:59:59.999999'::timestamp, date '0001-01-01' + n,
           CASE n % 2 WHEN 0 THEN '4713-01-01 BC' ELSE '294276-01-01' END::date,
           '23:59:59.999999'::time, '-1 year 2 mons -3 days 04:05:06.7'::interval, n % 2 = 0,
           (1.1 * n)::real, CASE n % 3 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' ELSE '5e-324' END::float8,
           decode(repeat('00ff', n), 'hex'), ARRAY['', NULL, 'a,"b', 'NULL'],
           jsonb_build_object('n', n, 'text', E'\\u2028 "quoted"', 'none', NULL),
           (ARRAY['glad', 'so, so'])[1 + n % 2]::mood, '' || n, '10.0.0.1/8'::inet
    FROM generate_series(1, {len(hostile.SPELLS)}) AS n"""


def build(database: Database) -> None:
    """The shop, whose records have that key, and quantities of no bound."""
    columns = ", ".join(f"{name} {kind}" for name, kind in KEY.items())
    database.psql(f"""
        CREATE TYPE mood AS ENUM ('glad', 'so, so');
        CREATE DOMAIN label AS varchar(20) CHECK (VALUE <> 'x');
        CREATE TABLE companies (id bigint PRIMARY KEY, name text NOT NULL);
        INSERT INTO companies SELECT n, 'Company ' || n FROM generate_series(1, 3) n;
        CREATE TABLE stock_items ({columns}, company_id bigint, sku text, quantity numeric,
                                  reserved integer NOT NULL DEFAULT 0, deleted_at timestamptz,
                                  PRIMARY KEY ({", ".join(KEY)}));
        INSERT INTO stock_items
        SELECT s.*, NULLIF(k_int % 4, 0), NULLIF('sku ' || k_int, 'sku 2'),
               CASE k_int WHEN 5 THEN 'NaN' WHEN 6 THEN NULL ELSE k_int / 8.0 END, k_int % 2
        FROM ({ROWS}) AS s({", ".join(KEY)});
    """)


def mapping(**changes: Any) -> stage.StockMapping:
    source = {**stage.DEFINITION["source"], "key": [*KEY]}
    return stage.mapping(source=source, thresholds={"quarantined_percent": 100}, **changes)


@pytest.fixture(scope="module")
def migrated(server: EmbeddedServer) -> Iterator[Database]:
    """A verified migration with records of every kind."""
    with made_database(server) as made:
        build(made)
        stage.migrate(made, mapping())
        yield made


@pytest.fixture(scope="module")
def archived(migrated: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its archive; tests change copies of it."""
    kept = tmp_path_factory.mktemp("archives")
    (made,) = keeping.archive(verbs.open_target(migrated.url), mapping(), kept)
    return Path(made["path"])


def spelled(value: object) -> str | None:
    """A value out of a file, as PostgreSQL reads it."""
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    return repr(value) if isinstance(value, float) else str(value)


def test_every_value_of_every_table_comes_back_as_it_was(
    migrated: Database, archived: Path
) -> None:
    import pyarrow.parquet as pq

    told = manifest.read_manifest(archived)
    # Whatever the ledger has for a migration, as soon as it has it.
    kept = {table.name for table in ledger.metadata.sorted_tables}
    assert {table.file.removesuffix(".parquet") for table in told.tables} == {
        *(kept - {"archive", "notification", "notification_channel", "transition", "version"}),
        *("snapshot", "planned_location"),
    }
    names = {"snapshot": "snapshot_1", "planned_location": "snapshot_1_location"}
    # What the archive itself notes, and the seal of the report that it writes.
    later = {"event": "WHERE o.kind <> 'archived'", "seal": "WHERE false"}
    later["sealed_rows"] = "WHERE o.kind <> 'live'"
    with migrated.engine.connect() as connection:
        for table in told.tables:
            name = table.file.removesuffix(".parquet")
            original = quoted("inventory_migration", names.get(name, name))
            connection.execute(sa.text(f"CREATE TEMP TABLE back (LIKE {original})"))
            rows = pq.read_table(archived / table.file).to_pylist()
            assert len(rows) == table.rows
            listed = ", ".join(quoted(column.name) for column in table.columns)
            values = ", ".join(
                f"CAST(CAST(:v{n} AS text) AS {column.type})"
                for n, column in enumerate(table.columns)
            )
            if rows:
                connection.execute(
                    sa.text(f"INSERT INTO back ({listed}) VALUES ({values})"),
                    [{f"v{n}": spelled(v) for n, v in enumerate(row.values())} for row in rows],
                )
            without = later.get(name, "")
            for one, other in ((f"{original} AS o {without}", "back AS o"), ("back AS o",) * 2):
                other = f"{original} AS o" if one.startswith("back") else other
                differs = connection.execute(
                    sa.text(f"SELECT o::text FROM {one} EXCEPT ALL SELECT o::text FROM {other}")
                ).all()
                assert differs == [], name
            connection.execute(sa.text("DROP TABLE back"))
        connection.rollback()


def test_types_are_the_narrowest_that_lose_nothing_and_others_say_why(archived: Path) -> None:
    snapshot = manifest.read_manifest(archived).tables[0]
    found = {
        name: (column.stored, column.note)
        for name, column in zip(KEY, snapshot.columns[3:], strict=False)
    }
    assert snapshot.columns[3].name == "key_1"
    assert {name: stored for name, (stored, note) in found.items() if note is None} == {
        "k_int": "int32",
        "k_text": "string",
        "k_char": "string",
        "k_money": "decimal128(3, 2)",
        "k_huge": "decimal256(60, 3)",
        "k_at": "timestamp[us, tz=UTC]",
        "k_wall": "timestamp[us]",
        "k_day": "date32[day]",
        "k_bool": "bool",
        "k_real": "float",
        "k_double": "double",
        "k_name": "string",
    }
    assert found["k_nan"] == ("string", "has NaN or Infinity")
    assert "digits behind the point" in str(found["k_any"][1])
    assert "infinity" in str(found["k_ever"][1])
    assert found["k_uuid"] == ("string", "uuid as PostgreSQL spells it")
    held = HeldColumn("n", "numeric", "numeric")
    wide = types.stored_type(held, Range(scales=(70, 70), digits=7))
    assert wide == ("string", "has numbers of 77 digits")
    sums = snapshot.sums
    assert (sums["quantity"].sum, sums["quantity"].counted) == ("8.37500000000000000000", 10)
    assert sums["reserved"].sum == "6"


def _flip(path: Path) -> None:
    data = bytearray((path / "outcome.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "outcome.parquet").write_bytes(data)


def _lose(path: Path) -> None:
    (path / "chunk.parquet").unlink()


def _cut(path: Path) -> None:
    os.truncate(path / "snapshot.parquet", 1000)


def _add(path: Path) -> None:
    (path / "report" / "more.md").write_text("Not one unit was lost.")


def _claim(path: Path, table: str, change: Callable[[dict[str, Any]], None]) -> None:
    told = json.loads((path / manifest.NAME).read_text())
    change(next(one for one in told["tables"] if one["file"] == f"{table}.parquet"))
    (path / manifest.NAME).write_text(json.dumps(told))


def _forge(path: Path) -> None:
    """A unit more, in a file whose hash was made anew."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / "chunk.parquet"
    rows = pq.read_table(file)
    place = rows.column_names.index("units_after")
    more = pa.array([str(Decimal(units) + 1) for units in rows["units_after"].to_pylist()])
    rows = rows.set_column(place, "units_after", more)
    pq.write_table(rows.slice(1), file)
    hashed = {"sha256": reading.sha256(file), "bytes": file.stat().st_size}
    _claim(path, "chunk", lambda said: said.update(hashed))


def _unit_less(said: dict[str, Any]) -> None:
    said["sums"]["quantity"]["sum"] = "9"


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit": (_flip, r"outcome.parquet: its SHA-256 is not"),
    "a file lost": (_lose, r"chunk.parquet: is missing"),
    "a file cut": (_cut, r"snapshot.parquet: has 1,000 bytes"),
    "a file too much": (_add, r"report/more.md: is not in the manifest"),
    "rows claimed": (
        lambda path: _claim(path, "event", lambda said: said.update(rows=1)),
        r"event.parquet: has [2-9] rows, and the manifest says 1",
    ),
    "units claimed": (
        lambda path: _claim(
            path, "snapshot", lambda said: said["sums"]["quantity"].update(sum="9")
        ),
        r"snapshot.parquet: its quantity comes to 8.3750+ in 10 numbers, and the manifest says 9",
    ),
    "a type claimed": (
        lambda path: _claim(path, "phase", lambda said: said["columns"][0].update(stored="int32")),
        r"phase.parquet: its columns are not",
    ),
    "a file forged": (_forge, r"chunk.parquet: has 2 rows, and the manifest says 3.*units_after"),
    "no manifest of ours": (
        lambda path: _claim(path, "phase", lambda said: said.pop("sha256")),
        r"manifest.json: tables.*sha256: Field required",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_its_file_named(
    fault: str, archived: Path, tmp_path: Path
) -> None:
    copy = tmp_path / archived.name
    shutil.copytree(archived, copy)
    assert keeping.verify(copy)[0]["rows"] == keeping.verify(tmp_path)[0]["rows"] > 12
    plant, says = FAULTS[fault]
    plant(copy)
    with pytest.raises(ArchiveDiffers, match=says) as found:
        keeping.verify(copy)
    assert found.value.exit_code == 3
    # Beside others it is told where.
    shutil.copytree(archived, tmp_path / "shop-2")
    with pytest.raises(ArchiveDiffers, match=f"shop-1/{says}"):
        keeping.verify(tmp_path)


def left(kept: Path) -> list[str]:
    return sorted(path.name for path in kept.iterdir())


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interrupted_archive_leaves_nothing_half(
    stop: BaseException, migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = verbs.open_target(migrated.url)
    before = migrated.psql("SELECT count(*) FROM inventory_migration.archive")

    def stopped(*_: object) -> None:
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(files, "_parsed", stopped)
        with pytest.raises(ArchiveNotWritten if isinstance(stop, OSError) else KeyboardInterrupt):
            keeping.archive(target, mapping(), tmp_path)
    assert left(tmp_path) == []
    assert migrated.psql("SELECT count(*) FROM inventory_migration.archive") == before
    # Killed, it leaves what nobody takes for an archive, and the next one clears away.
    (tmp_path / ".shop-1.partial").mkdir()
    (tmp_path / ".shop-1.partial" / "snapshot.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArchiveMissing):
        keeping.verify(tmp_path)
    keeping.archive(target, mapping(), tmp_path)
    assert left(tmp_path) == ["shop-1"]


def test_what_cannot_be_written_is_one_sentence_and_nothing_is_written_over(
    migrated: Database, tmp_path: Path
) -> None:
    target = verbs.open_target(migrated.url)
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveNotWritten, match="file/shop-1: file exists; name another"):
        keeping.archive(target, mapping(), tmp_path / "file")
    (tmp_path / "shop-1").mkdir()
    with pytest.raises(ArchiveNotWritten, match="nothing is written over it"):
        keeping.archive(target, mapping(), tmp_path)
    (tmp_path / "shop-1").rmdir()
    with (tmp_path / ".shop-1.lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ArchiveNotWritten, match="somebody is writing this archive"):
            keeping.archive(target, mapping(), tmp_path)
    assert left(tmp_path) == [".shop-1.lock", "file"]


def test_an_archive_is_of_one_moment(
    migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def while_others_write(*arguments: Any) -> None:
        migrated.psql("""
            INSERT INTO inventory_migration.event (migration_id, who, kind) VALUES (1, 'x', 'seen');
            UPDATE inventory_migration.chunk SET attempts = attempts + 1;
        """)
        files.write_table(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_table", while_others_write)
        (made,) = keeping.archive(verbs.open_target(migrated.url), mapping(), tmp_path)
    assert made["written"]
    # What was written meanwhile makes a newer copy, beside the older one and not over it.
    (newer,) = keeping.archive(verbs.open_target(migrated.url), mapping(), tmp_path)
    assert newer["path"] == f"{made['path']}.2"
    assert newer["tables"]["event"]["rows"] > made["tables"]["event"]["rows"]
    (same,) = keeping.archive(verbs.open_target(migrated.url), mapping(), tmp_path)
    assert (same["written"], same["path"]) == (False, newer["path"])


def test_only_what_has_ended_is_archived_and_only_by_who_may_say_so(
    database: Database, tmp_path: Path
) -> None:
    target = verbs.open_target(database.url)
    with pytest.raises(NothingToArchive, match="nothing was ever migrated"):
        keeping.archive(target, stage.MAPPING, tmp_path)
    stage.shop(database)
    stage.locations(database)
    stage.transform(database)
    with pytest.raises(NothingToArchive, match="migration 1 is running and has not ended"):
        keeping.archive(target, stage.MAPPING, tmp_path)
    stage.close(database)
    with pytest.raises(NothingToArchive, match="there is no migration 9"):
        keeping.archive(target, stage.MAPPING, tmp_path, migration_id=9)
    role = f"reader_{database.name}"
    database.psql(f"""
        CREATE ROLE {role} LOGIN;
        GRANT USAGE ON SCHEMA inventory_migration TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA inventory_migration TO {role};
    """)
    reader = verbs.open_target(database.url.replace("postgres@", f"{role}@"))
    try:
        with pytest.raises(LedgerNotOwned, match=f"the role {role} lacks INSERT ON") as refused:
            keeping.archive(reader, stage.MAPPING, tmp_path)
        assert len(refused.value.lacking) == 3
    finally:
        for engine in (reader.engine, reader.reader):
            engine.dispose()
        database.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert left(tmp_path) == []


def test_the_commands_say_what_was_archived_and_what_is_wrong(
    migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", migrated.url)
    monkeypatch.setenv("INVENTORY_HOME", str(tmp_path / "home"))
    path = mapping_file(tmp_path, source={**stage.DEFINITION["source"], "key": [*KEY]},
                        retention={"keep_archive": "7 years"})  # fmt: skip
    kept = tmp_path / "archives"
    said = im("archive", "--mapping", path, "--to", kept)
    assert f"Migration 1 of shop was archived and read back: {kept}/shop-1" in said.stdout
    again = answer("archive", "--mapping", path, "--to", kept, "--migration", 1)
    assert not again["changed"]
    assert again["archives"][0]["tables"]["snapshot"]["rows"] == len(hostile.SPELLS)
    monkeypatch.setenv("INVENTORY_DATABASE_URL", "postgresql://nobody@nowhere.invalid/none")
    read = answer("verify-archive", kept)
    until = datetime.fromisoformat(read["archives"][0]["keep_until"])
    ended = datetime.fromisoformat(read["archives"][0]["ended_at"])
    assert until == ended.replace(year=ended.year + 7)
    shown = im("verify-archive", kept / "shop-1").stdout
    assert "is what its manifest says" in shown
    assert read["archives"][0]["manifest_sha256"] in shown
    _flip(kept / "shop-1")
    assert "outcome.parquet" in sentence(im("verify-archive", kept, code=3))
    assert "holds no archive" in sentence(im("verify-archive", tmp_path / "no", code=2))
