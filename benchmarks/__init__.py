"""Measurements that depend on the machine; see README.md here."""
