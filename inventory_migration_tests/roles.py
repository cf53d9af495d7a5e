"""A database whose migration is driven by a role that owns nothing and has the printed grants.

The application's tables have an owner of their own, who is no superuser and executes the owner's
steps. What PUBLIC may do by default is revoked, so that nothing but the grants counts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from inventory_migration.catalog import resolve
from inventory_migration.database import create_engine
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.engine.statements import Statements, statements
from inventory_migration.mapping import StockMapping
from inventory_migration_tests.conftest import Database, made_database

_numbers = itertools.count(1)


@dataclass(frozen=True)
class WorkedDatabase(Database):
    """A database of one test with two roles: who owns the tables, and who migrates.

    Attributes:
        owner: Owns the application's tables from `hand_over` on.
        worker: Migrates from then on, in `engine` as in `worker_url`.
    """

    owner: str = ""
    worker: str = ""

    @property
    def worker_url(self) -> str:
        """The URL with which the worker connects."""
        return self.url.replace("postgres@", f"{self.worker}@", 1)

    def hand_over(self, mapping: StockMapping) -> None:
        """Have the owner execute the owner's steps, and let the worker go on with its grants."""
        told = self.printed(mapping)
        self.psql("; ".join([f"SET ROLE {self.owner}", *told.owner]))
        self.psql("; ".join(told.grants))
        if mapping.needs_write_stop:
            self.psql("; ".join(told.write_stop))
        self.__dict__["engine"] = create_engine(self.worker_url)

    def printed(self, mapping: StockMapping) -> Statements:
        """Give the tables to their owner, and say what `grants` prints."""
        self.psql(f"""
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            REVOKE ALL ON DATABASE {self.name} FROM PUBLIC;
            SELECT format('ALTER SCHEMA %I OWNER TO {self.owner}', nspname) FROM pg_namespace
            WHERE nspname !~ '^(pg_|information_schema)' \\gexec
            SELECT format('ALTER TABLE %I.%I OWNER TO {self.owner}', nspname, relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE nspname !~ '^(pg_|information_schema)' AND relkind = 'r' \\gexec
        """)
        with self.engine.connect() as connection:
            return statements(connection, resolve(connection, mapping), role=self.worker)


@contextmanager
def worked_database(server: EmbeddedServer) -> Iterator[WorkedDatabase]:
    """An empty database with its two roles; all are dropped afterwards."""
    number = f"{os.getpid()}_{next(_numbers)}"
    owner, worker = f"owner_{number}", f"worker_{number}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        for role in (owner, worker):
            connection.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOINHERIT")
    try:
        with made_database(server) as made:
            yield WorkedDatabase(made.name, made.url, made.server, owner=owner, worker=worker)
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for role in (owner, worker):
                connection.execute(f"DROP ROLE {role}")
