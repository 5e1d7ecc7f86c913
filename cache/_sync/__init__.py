# Generated from cache/_async/__init__.py by scripts/generate_sync.py; edit that, not this.
"""The source of the cache's client side. `cache._sync` is generated from it by scripts/generate_sync.py."""
