"""The access service: ready when the data can be used; keeps the cache honest and the schema ahead."""
