"""Lint, plan, rehearse and verify migrations, on a temporary server. The target database is only read.

Applying them is db.migrator.
"""
