"""A small shop whose migration stands half done and has something of everything to show.

Its company names and reasons are what an attacker would choose, so that each page that shows them
is tried with them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from inventory_migration import steering, verbs
from inventory_migration.engine.plan import Start
from inventory_migration.errors import MigrationPaused
from inventory_migration.mapping import StockMapping
from inventory_migration_tests import stage
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.dashboard.figures import accounted
from inventory_migration_tests.sessions import until

MARKUP = """<img src=x onerror="window.caught='x'"><script>window.caught='y'</script>{{ 1 + 1 }}"""
"""Text that runs where it is taken for markup, or for a template of the page's framework."""

REASON = f"lunch {MARKUP}"

CHANGES: dict[str, Any] = {
    "phases": [
        {"name": "pilot", "companies": 1},
        {"name": "early", "companies": 2},
        {"name": "rest"},
    ],
    "chunk": {"rows": 20},
    "thresholds": {"quarantined_percent": 50},
}
MAPPING = stage.mapping(**CHANGES)


def shop(database: Database, items: int = 1200) -> None:
    """Create the application, with records to skip and to put into quarantine."""
    stage.shop(database, companies=12, items=items)
    quoted = MARKUP.replace("'", "''")
    database.psql(
        f"""
        UPDATE companies SET name = name || ' {quoted}' WHERE id % 2 = 0;
        UPDATE stock_items SET quantity = NULL WHERE id IN (1, 13, 25);
        UPDATE stock_items SET company_id = 99 WHERE id IN (2, 14);
        UPDATE stock_items SET deleted_at = now() WHERE id IN (3, 15);
        """
    )


def half_done(database: Database, mapping: StockMapping = MAPPING) -> None:
    """Migrate the shop until somebody pauses it, some third of the way."""
    shop(database)
    start = Start(explicit=True, max_rows_per_second=500)
    stage.locations(database, mapping, start)
    with ThreadPoolExecutor(1) as beside:
        moving = beside.submit(stage.transform, database, mapping, start=start)
        until(lambda: accounted(database) > 300 or moving.done(), "a third of the records")
        steering.pause(verbs.open_target(database.url), mapping.name, reason=REASON)
        stopped = moving.exception(timeout=30)
    assert isinstance(stopped, MigrationPaused), stopped
