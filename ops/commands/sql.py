"""`groundwork sql`: the queries of db/queries, held against the schema."""

from __future__ import annotations

import sys

import click


@click.group()
def sql() -> None:
    """The named queries, and whether they fit schema and types."""


@sql.command()
@click.option("--offline", is_flag=True, help="By db/queries.lock.json alone, without a server.")
@click.option(
    "--update", is_flag=True, help="Write db/queries.lock.json and db/grants.lock.json where all agree."
)
@click.option(
    "--against", metavar="REV", help="With the queries and the schema of a git revision, both ways."
)
def check(offline: bool, update: bool, against: str | None) -> None:
    """Compare each query's parameters, columns and nulls with the Python types; exit 1 where they differ."""
    from ops.errors import Exit, OpsError
    from ops.sql_check.declared import all_queries
    from ops.sql_check.lockfile import LOCKFILE, migrations_digest, offline_problems, render, stale_grants

    if offline + update + bool(against) > 1:
        raise OpsError("--offline, --update and --against exclude one another", Exit.USAGE)
    queries = all_queries()
    if offline:
        _finish(
            offline_problems(queries) + stale_grants(),
            f"{len(queries)} queries agree with db/queries.lock.json",
        )
        return

    from ops import granted, whole_file
    from ops.scratch_server import scratch_server
    from ops.sql_check import checker

    with scratch_server() as server:
        if against:
            _finish(
                checker.check_against(server, against),
                f"the queries work on both schemas, now and at {against}",
            )
            return
        lines, described, grants = checker.check(server)
    if update and not lines:
        whole_file.write(LOCKFILE, render(queries, described))
        whole_file.write(granted.LOCKFILE, granted.render(migrations_digest(), grants))
    if not lines and not update:
        lines = offline_problems(queries) + stale_grants()
    _finish(lines, f"{len(queries)} queries agree with the schema and the Python types")


def _finish(lines: list[str], summary: str) -> None:
    for line in lines:
        print(f"groundwork: {line}", file=sys.stderr)
    if lines:
        sys.exit(1)
    print(summary)
