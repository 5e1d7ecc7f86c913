"""`groundwork sql`: check the queries of db/queries against the schema."""

from __future__ import annotations

import sys

import click

from ops.output import print_line


@click.group()
def sql() -> None:
    """Check the named queries against the schema"""


@sql.command()
@click.option("--offline", is_flag=True, help="Use only db/queries.lock.json, without a server")
@click.option("--update", is_flag=True, help="Write the lockfiles in db/ if all queries match")
@click.option("--against", metavar="REV", help="Cross-check queries and schema with those of a git revision")
def check(offline: bool, update: bool, against: str | None) -> None:
    """Check queries against the schema and the Python types

    Compares parameters, columns and nullability. Exits with 1 if they differ.
    """
    from ops.errors import Exit, OpsError
    from ops.sql_check.declared import all_queries
    from ops.sql_check.lockfile import LOCKFILE, migrations_digest, offline_problems, render, stale_grants

    if offline + update + bool(against) > 1:
        raise OpsError("--offline, --update and --against cannot be combined; pass one of them", Exit.USAGE)
    queries = all_queries()
    if offline:
        _finish(
            offline_problems(queries) + stale_grants(),
            f"{len(queries)} queries match db/queries.lock.json",
        )
        return

    from ops import atomic_write
    from ops.servers.scratch_server import scratch_server
    from ops.sql_check import checker, grants

    with scratch_server() as server:
        if against:
            _finish(
                checker.check_against(server, against),
                f"the queries work on both schemas, now and at {against}",
            )
            return
        lines, described, privileges = checker.check(server)
    if update and not lines:
        atomic_write.write(LOCKFILE, render(queries, described))
        atomic_write.write(grants.LOCKFILE, grants.render(migrations_digest(), privileges))
    if not lines and not update:
        lines = offline_problems(queries) + stale_grants()
    _finish(lines, f"{len(queries)} queries match the schema and the Python types")


def _finish(lines: list[str], summary: str) -> None:
    for line in lines:
        print_line(f"groundwork: {line}", err=True)
    if lines:
        sys.exit(1)
    print_line(summary)
