"""Backups of a stack's Postgres, restores from them, and drills that show that they would work."""
