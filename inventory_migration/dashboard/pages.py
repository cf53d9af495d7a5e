"""What a viewer sees: the list of migrations, and a page for each.

Who may see it is decided in `guard.py`.
"""

from __future__ import annotations

from nicegui import run, ui

from inventory_migration import inquiries
from inventory_migration.dashboard.context import Context


def register(app: Context) -> None:
    """Make the pages known to the server."""

    @ui.page("/", title="Migrations")
    async def front() -> None:
        ui.label("Migrations").classes("text-h5")
        for found in await run.io_bound(inquiries.list_migrations, app.target) or []:
            number = found["migration_id"]
            ui.link(f"{found['mapping']} {number}: {found['state']}", f"/migrations/{number}")

    @ui.page("/migrations/{migration_id}", title="Migration")
    async def migration(migration_id: int) -> None:
        ui.link("Migrations", "/")
        for found in await run.io_bound(inquiries.list_migrations, app.target) or []:
            if found["migration_id"] == migration_id:
                ui.label(f"{found['mapping']} {migration_id}: {found['state']}").classes("text-h5")
                ui.label(f"{found['records_done']} of {found['records']} records")
