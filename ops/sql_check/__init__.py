"""Check the queries of db/queries against the schema: parameters, columns and nullability."""
