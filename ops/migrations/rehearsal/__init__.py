"""`groundwork migrate rehearse`: migrate a copy of a database while the named queries run, and measure the waits."""
