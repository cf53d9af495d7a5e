"""Copies of a migration outside of its database: Parquet files with a manifest.

What the ledger says of them is in `engine/holdings.py` and `engine/purge.py`. pyarrow is imported
here and nowhere else, where it is used: it costs a good part of a second.
"""
