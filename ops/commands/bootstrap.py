"""`groundwork bootstrap`: roles and schema of a managed server, from where it is reached."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ops.commands.migrate_options import exit_codes, folder_option, wait_option


@click.command("bootstrap")
@click.option(
    "--admin-secret", envvar="GROUNDWORK_ADMIN_SECRET", required=True, metavar="ARN",
    help="The administrator's secret, as RDS keeps it in Secrets Manager.",
)  # fmt: skip
@click.option(
    "--connection-limits", envvar="GROUNDWORK_CONNECTION_LIMITS", required=True, metavar="JSON",
    help='CONNECTION LIMIT by role: {"app": 40, "readonly": 10, "monitor": 5, "migrator": 5}.',
)  # fmt: skip
@folder_option
@wait_option
def bootstrap(admin_secret: str, connection_limits: str, folder: Path, wait_seconds: float) -> None:
    """Make roles, database and schema of a managed Postgres: every step may be repeated.

    DATABASE_URL is the migrator's, without a password: it logs in by tokens of IAM (GROUNDWORK_DATABASE_LOGIN=iam).
    """
    from db.settings import DatabaseSettings
    from ops.bootstrap import Administrator, bootstrap

    limits = _limits(connection_limits)
    settings = DatabaseSettings.from_environment()
    with exit_codes():
        bootstrap(
            Administrator.from_secret(admin_secret),
            settings.unbounded_conninfo,
            limits,
            folder,
            tell=click.echo,
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
            f'--connection-limits names each of {", ".join(LOGINS)}, like {{"app": 40, ...}}'
        )
    return limits
