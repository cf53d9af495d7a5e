"""Telling people outside what happens to a migration: messages, their forms, and their delivery.

Which events are news, and what has become of each message, is kept by `engine/notifications.py`;
nothing in this package writes to the ledger but through that.
"""

from inventory_migration.notifications.delivery import delivering, together

__all__ = ["delivering", "together"]
