"""Move stock to per-company default locations, and prove that nothing was lost.

Importing the package costs nothing and connects to nothing; the two verbs are loaded when they are
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inventory_migration.verbs import (
        create_default_warehouse_per_company,
        migrate_existing_stock_to_default_location,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "create_default_warehouse_per_company",
    "migrate_existing_stock_to_default_location",
]


def __getattr__(name: str) -> Any:
    """Load a verb on first use, so that importing the package stays cheap."""
    if name in __all__:
        from inventory_migration import verbs

        return getattr(verbs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
