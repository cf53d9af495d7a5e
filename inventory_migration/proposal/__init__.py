"""Proposing a mapping: what the catalog and a few rows tell of an application's stock.

Everything here only reads, and reads a bounded part of the rows. What a mapping means, and whether
one fits, is for `mapping/` and `catalog/`.
"""

from inventory_migration.proposal.draft import Proposal, propose

__all__ = ["Proposal", "propose"]
