"""Generate the files of a new entity: its table, queries, records, repository and test."""
