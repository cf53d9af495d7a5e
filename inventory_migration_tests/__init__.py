"""Tests of inventory-migration, against a real PostgreSQL."""
