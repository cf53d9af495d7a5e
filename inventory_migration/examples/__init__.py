"""Applications that made this very move: for each a mapping, its tables, and believable data.

What is told of an example and where its files lie is in `catalogue.py`, how one is put into a
database in `load.py`. Nothing in this package knows what a migration is.
"""

from inventory_migration.examples.catalogue import EXAMPLES, Case, Example, named_example

__all__ = ["EXAMPLES", "Case", "Example", "named_example"]
