"""The documents of a migration: facts read in one moment, and the pages made of them."""
