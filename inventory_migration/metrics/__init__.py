"""Figures for monitoring systems: which there are, how they are read, served and pushed.

What a figure says is asked of the ledger, in `watching.py` and the engine; nothing here decides
anything about a migration.
"""
