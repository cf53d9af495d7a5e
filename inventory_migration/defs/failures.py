"""Conditions of the tool as failures of a step: one sentence and its facts.

What a step does belongs elsewhere; here is only what becomes of it when it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import sqlalchemy as sa

from inventory_migration.database import explain
from inventory_migration.defs.resources import Database
from inventory_migration.errors import MigrationError
from inventory_migration.mapping import StockMapping


@contextmanager
def reported(database: Database, mapping: StockMapping) -> Iterator[None]:
    """Run a step: its conditions become failures, and an interrupt leaves the migration paused.

    Raises:
        dagster.Failure: The step met a condition; it is never retried by itself.
    """
    database.mapping = mapping.name
    try:
        yield
    except MigrationError as error:
        raise failure(database, error) from None
    except sa.exc.DBAPIError as error:
        raise failure(database, explain(error, database.target.engine)) from error
    except Exception:
        raise
    except BaseException:
        database.interrupted = True
        database.pause(mapping)
        raise


def failure(database: Database, error: MigrationError) -> dg.Failure:
    """Return the failure that says what the condition says, and keep the condition for a caller."""
    database.error = error
    return dg.Failure(description=str(error), metadata=facts(error), allow_retries=False)


def facts(error: MigrationError) -> dict[str, dg.MetadataValue]:
    """Return a condition's facts as metadata."""
    found: dict[str, dg.MetadataValue] = {"condition": dg.MetadataValue.text(type(error).__name__)}
    for name, value in vars(error).items():
        if isinstance(value, bool | int | float | str):
            found[name] = dg.MetadataValue.text(str(value))
        elif isinstance(value, list | tuple):
            found[name] = dg.MetadataValue.json([str(item) for item in value])
    return found
