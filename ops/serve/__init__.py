"""The access service: reports readiness, processes the outbox, warms the cache, and maintains the schema."""
