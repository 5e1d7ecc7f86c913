"""The source of the cache's client side. `cache._sync` is generated from it by scripts/generate_sync.py."""
