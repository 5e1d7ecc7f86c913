"""Migrations under SIGKILL, in a crowd, and under load: what db.migrator promises, and what the naive way breaks."""
