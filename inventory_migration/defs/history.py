"""Dagster's history of a run in this process: its own files, with a connection kept to each.

Dagster's storage connects anew up to five times for each event, and more than a hundred events tell
of the smallest run. What is stored, and where, is left to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData


class KeptEvents(SqliteEventLogStorage):
    """The events of runs, written by connections that are kept until the storage is given up."""

    def __init__(self, base_dir: str) -> None:
        """Connect to nothing yet."""
        self._kept: dict[str, sa.Engine] = {}
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        if shard not in self._kept:
            # What makes a file that is not there yet.
            with super()._connect(shard):
                pass
        with self._db_lock:
            if shard not in self._kept:
                self._kept[shard] = _engine(self.conn_string_for_shard(shard))
            with self._kept[shard].begin() as connection:
                yield connection

    def dispose(self) -> None:
        """Close what was kept."""
        with self._db_lock:
            while self._kept:
                self._kept.popitem()[1].dispose()
        super().dispose()


class KeptHistory(DagsterSqliteStorage):
    """Dagster's storage in files, but for how it writes events."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Take the files as they are, and make those that are missing."""
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptEvents(self._event_log_storage._base_dir)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "KeptHistory":
        """Make one as a configuration says."""
        return cls.from_local(inst_data=inst_data, **config_value)


def kept(reference: InstanceRef) -> InstanceRef:
    """An instance whose history is written so, where it lies in files; else as it is."""
    found = reference.storage_data
    if found is None or found.class_name != DagsterSqliteStorage.__name__:
        return reference
    storage = ConfigurableClassData(__name__, KeptHistory.__name__, found.config_yaml)
    return reference._replace(storage_data=storage)


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(
        url, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False, "timeout": 60}
    )

    @sa.event.listens_for(engine, "connect")
    def hurry(connection: Any, _record: Any) -> None:
        # A power failure may take the last events of a run with it, and never the rest. What has
        # become of the stock is in the ledger.
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
