# Generated from db/_async/__init__.py by scripts/generate_sync.py; edit that, not this.
"""The data-access module, in its async and its sync form.

Edit only `db/_async`; scripts/generate_sync.py generates `db/_sync` from it.
"""
