"""Generate the files of a new entity: its migration, queries, records, repository, and values for tests."""
