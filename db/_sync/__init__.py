# Generated from db/_async/__init__.py by scripts/generate_sync.py; edit that, not this.
"""The source of the data-access module. `db._sync` is generated from it by scripts/generate_sync.py."""
