"""Readers and writers in several processes, with a shared ledger to detect stale reads."""
