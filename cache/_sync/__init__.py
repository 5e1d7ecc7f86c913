# Generated from cache/_async/__init__.py by scripts/generate_sync.py; edit that, not this.
"""The cache client, in its async and its sync form.

Edit only `cache/_async`; scripts/generate_sync.py generates `cache/_sync` from it.
"""
