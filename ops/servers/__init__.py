"""Servers that commands query: a stack's Postgres and Redis, and temporary Postgres servers."""
