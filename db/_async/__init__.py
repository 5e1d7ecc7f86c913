"""The source of the data-access module. `db._sync` is generated from it by scripts/generate_sync.py."""
