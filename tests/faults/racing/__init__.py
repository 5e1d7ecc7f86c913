"""Readers and writers in several processes, and a ledger that tells a stale read from a fresh one."""
