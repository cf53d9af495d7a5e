"""What people do with records in quarantine: look at them, try them again, leave them in place.

Looking reads in transactions that cannot write. How records get into quarantine is in
`engine/isolation.py`, what the ledger says of them in `engine/quarantine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.engine import ledger, quarantine
from inventory_migration.engine.quarantine import Filter
from inventory_migration.errors import NothingMigrated, NotInQuarantine, nearest
from inventory_migration.mapping import StockMapping

if TYPE_CHECKING:
    from inventory_migration.verbs import Target

LISTED = 50
"""How many records are listed where nobody says how many."""


def list_records(
    target: Target,
    mapping: str,
    *,
    rule: str | None = None,
    state: str | None = None,
    company: str | None = None,
    limit: int = LISTED,
) -> dict[str, Any]:
    """A mapping's records in quarantine: counted by rule and state, and the first of them.

    Args:
        target: The database.
        mapping: The mapping's name.
        rule: Only those that this rule has put there.
        state: Only those that are open, retried or waived.
        company: Only those of the company with this key.
        limit: How many records to list.

    Raises:
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: There is no such rule or company.
    """
    with _one_moment(target, mapping) as connection:
        problems = []
        if rule is not None and rule not in (rules := quarantine.known_rules(connection, mapping)):
            problems.append(f"there is no rule {rule}{nearest(rule, sorted(rules))}")
        if company is not None and company not in (
            companies := quarantine.known_companies(connection, mapping)
        ):
            problems.append(f"no company {company} was met{nearest(company, companies)}")
        if problems:
            raise NotInQuarantine(mapping=mapping, problems=problems)
        wanted = Filter(rule=rule, state=state, company=company)
        return quarantine.list_records(connection, mapping, wanted, limit=limit)


def show_record(target: Target, mapping: StockMapping, key: str) -> dict[str, Any]:
    """Everything about one record in quarantine; see `engine.quarantine.show_record`.

    Raises:
        NothingMigrated: No migration has ever met a record.
        NotInQuarantine: No record of this key is in quarantine; names the nearest that is.
    """
    with _one_moment(target, mapping.name) as connection:
        row = _required(connection, mapping.name, (key,))[key]
        return quarantine.show_record(connection, resolve(connection, mapping), row)


def _required(
    connection: sa.Connection, mapping: str, keys: tuple[str, ...]
) -> dict[str, sa.Row[Any]]:
    """The rows of these keys, all of which must be there."""
    found = quarantine.find_keys(connection, mapping, keys)
    problems = []
    for key in keys:
        if key not in found:
            known = quarantine.known_keys(connection, mapping, key)
            problems.append(f"no record {key} is in quarantine{nearest(key, known)}")
    if problems:
        raise NotInQuarantine(mapping=mapping, problems=problems)
    return found


@contextmanager
def _one_moment(target: Target, mapping: str) -> Iterator[sa.Connection]:
    """A read-only transaction that sees one moment of a ledger that knows the mapping."""
    with target.reader.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL row_security = off"))
        if not ledger.installed(connection) or ledger.find(connection, mapping=mapping) is None:
            raise NothingMigrated(mapping=mapping)
        yield connection
