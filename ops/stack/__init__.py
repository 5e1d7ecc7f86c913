"""One stack: Pulumi runs, state, status, connection strings, adoption."""
