"""`groundwork bootstrap`: create the roles and the schema of a managed Postgres server."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ops.commands.migrator_options import exit_codes, folder_option, wait_option
from ops.output import print_line


@click.command("bootstrap")
@click.option(
    "--admin-secret", envvar="GROUNDWORK_ADMIN_SECRET", required=True, metavar="ARN",
    help="ARN of the administrator's secret in Secrets Manager",
)  # fmt: skip
@click.option(
    "--connection-limits", envvar="GROUNDWORK_CONNECTION_LIMITS", required=True, metavar="JSON",
    help='Connection limit of each role, such as {"app": 40, ...}',
)  # fmt: skip
@folder_option
@click.option(
    "--expect", metavar="DIGEST:NAME",
    help="Fail unless these are the migrations of the folder",
)  # fmt: skip
@wait_option
def bootstrap(
    admin_secret: str,
    connection_limits: str,
    folder: Path,
    expect: str | None,
    wait_seconds: float,
) -> None:
    """Create roles, database and schema of a managed Postgres

    Idempotent: every step can be repeated. DATABASE_URL is the migrator's URL without a password, because the
    migrator logs in with an IAM token (GROUNDWORK_DATABASE_LOGIN=iam).
    """
    from db.settings import DatabaseSettings
    from ops.bootstrap import AdministratorLogin, bootstrap, require_migrations

    limits = _limits(connection_limits)
    settings = DatabaseSettings.from_environment()
    with exit_codes():
        if expect is not None:
            require_migrations(folder, expect)
        bootstrap(
            AdministratorLogin.from_secret(admin_secret, wait_seconds),
            settings.unbounded_conninfo,
            limits,
            folder,
            notify=print_line,
            wait_seconds=wait_seconds,
        )


def _limits(text: str) -> dict[str, int]:
    from infra.spec.roles import LOGINS

    try:
        limits = {str(role): int(limit) for role, limit in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError):
        limits = {}
    if limits.keys() != LOGINS.keys():
        raise click.UsageError(
            f'--connection-limits must give a limit for each of {", ".join(LOGINS)}, e.g. {{"app": 40, ...}}'
        )
    return limits
