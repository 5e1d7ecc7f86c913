"""Migrations under SIGKILL, with many concurrent migrators, and under load; naive migrators as negative controls."""
