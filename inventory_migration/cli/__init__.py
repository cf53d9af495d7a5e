"""The command line: it names verbs and hands over, and shows what they return.

`session.py` has what all commands share, `migrations.py` and `server.py` the commands,
`answers.py`, `outlook.py`, `terminal.py` and `progress.py` what a person sees. Decisions about
stock belong far below.
"""

from inventory_migration.cli.application import app, main

__all__ = ["app", "main"]
