"""Harm done on purpose, and what must hold all the same; run by `make chaos`."""
