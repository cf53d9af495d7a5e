"""A believable single-location application, to try the tool on and to test it with.

What creates, spoils and drops the demo inventory belongs here. Nothing in this package knows what
a migration is: it makes the tables that one finds in the wild, and no more.
"""

from inventory_migration.demo.create import DemoSummary, create_demo, has_demo
from inventory_migration.demo.generate import OPEN_ORDER_STATUSES

__all__ = ["OPEN_ORDER_STATUSES", "DemoSummary", "create_demo", "has_demo"]
