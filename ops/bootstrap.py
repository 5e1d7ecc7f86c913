"""Makes the database of a managed server ready: roles, database, grants, migrations, partitions.

For RDS, whose administrator is no superuser; on Docker the program does this over the container's socket. Every
step may be repeated, and two at once wait for each other. It runs in the access image, without Pulumi.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as sql_errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import scalar_row

from db.migrator import LockLimits, apply_pending, read_source
from db.named_query import queries
from infra.spec import rds, roles
from ops.errors import Exit, OpsError
from ops.server_errors import one_line

Tell = Callable[[str], None]
_MAKE_PARTITIONS = queries("schema")["make_activity_partitions"]
# Of the cluster, so that two tasks do not alter a role at once: one would fail with "tuple concurrently updated".
_LOCK = 0x67775F626F6F74
_CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Administrator:
    """Who makes roles: a member of rds_superuser, and no superuser."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def from_secret(cls, arn: str) -> Administrator:
        """As RDS keeps it in Secrets Manager. OpsError where it is not to be had."""
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise OpsError(
                "boto3 is not installed, which AWS's secrets need; install the extra aws-access"
            ) from error
        # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
        parts = arn.split(":")
        if len(parts) < 7 or parts[2] != "secretsmanager":
            raise OpsError(f"{arn!r} is no secret's ARN; it is the database's master user secret", Exit.USAGE)
        try:
            client = boto3.client("secretsmanager", region_name=parts[3])
            value = json.loads(client.get_secret_value(SecretId=arn)["SecretString"])
            return cls(value["username"], value["password"])
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            raise OpsError(
                f"the administrator's secret {arn} is not to be read ({code}); see docs/aws.md"
            ) from error
        except BotoCoreError as error:
            raise OpsError(f"Secrets Manager is not to be reached: {error}", Exit.UNREACHABLE) from error
        except (KeyError, TypeError, ValueError) as error:
            # The content is not shown: it may hold a password all the same.
            raise OpsError(f"the secret {arn} holds no username and password") from error


def bootstrap(
    administrator: Administrator,
    migrator_conninfo: Callable[[], str],
    connection_limits: Mapping[str, int],
    folder: Path,
    tell: Tell,
    wait_seconds: float = 60.0,
) -> None:
    """Bring the server to where the specification and the folder of migrations say.

    `migrator_conninfo` gives the migrator's connection string, with a token that is valid then; its server is the
    administrator's too. Raises OpsError, or db.migrator's errors.
    """
    url = conninfo_to_dict(migrator_conninfo())
    with _session(administrator, url, "postgres") as connection:
        _lock(connection, wait_seconds)
        with connection.transaction():
            connection.execute(roles.managed_roles_sql(connection_limits, rds.IAM_ROLE))
        tell(f"roles: {', '.join(login.name for group in roles.LOGINS.values() for login in group)}")
        if _make_database(connection):
            tell(f"database {roles.DATABASE}: made")
        with _session(administrator, url, roles.DATABASE) as inside, inside.transaction():
            inside.execute(roles.managed_grants_sql())
        tell("grants: as specified")
    limits = LockLimits(migrator_lock_seconds=wait_seconds)
    done = apply_pending(
        migrator_conninfo(),
        read_source(folder),
        limits=limits,
        on_event=lambda *event: _tell_event(tell, *event),
    )
    for step in done:
        tell(f"applied {step.migration.name} ({step.seconds:.2f} s)")
    if not done:
        tell("migrations: nothing was pending")
    with _told(), psycopg.connect(migrator_conninfo(), autocommit=True) as connection:
        made = connection.cursor(row_factory=scalar_row).execute(_MAKE_PARTITIONS.sql).fetchall()
    tell(f"partitions: {', '.join(map(str, made)) or 'all there'}")


def _make_database(connection: psycopg.Connection[Any]) -> bool:
    """Whether it was not there yet."""
    there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [roles.DATABASE]).fetchone()
    if there is not None:
        return False
    row = connection.execute("SELECT datctype FROM pg_database WHERE datname = 'postgres'").fetchone()
    assert row is not None
    connection.execute(roles.managed_database_sql(row[0]))
    return True


def _lock(connection: psycopg.Connection[Any], wait_seconds: float) -> None:
    connection.execute(f"SET lock_timeout = {int(wait_seconds * 1000)}")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    except sql_errors.LockNotAvailable as error:
        raise OpsError(
            f"another bootstrap has been at it for {wait_seconds:.0f} s; wait for its end", Exit.LOCKED
        ) from error


@contextmanager
def _session(
    administrator: Administrator, url: Mapping[str, Any], database: str
) -> Iterator[psycopg.Connection[Any]]:
    """The administrator's, in autocommit, on the server of the migrator's connection string."""
    given = {"connect_timeout": str(_CONNECT_SECONDS), **url}
    given |= {"user": administrator.user, "password": administrator.password, "dbname": database}
    # What it does is a few statements; one that hangs is told.
    given["options"] = "-c statement_timeout=120s"
    given["application_name"] = "groundwork bootstrap"
    with _told(), psycopg.connect(make_conninfo("", **given), autocommit=True) as connection:
        yield connection


@contextmanager
def _told() -> Iterator[None]:
    """The one place where the driver's errors become ours."""
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise OpsError(f"the database is not to be reached: {_line(error)}", Exit.UNREACHABLE) from error
        raise OpsError(f"the database refused ({error.sqlstate}): {_line(error)}") from error
    except psycopg.Error as error:
        raise OpsError(f"the database refused ({error.sqlstate}): {_line(error)}") from error


def _line(error: psycopg.Error) -> str:
    return error.diag.message_primary or one_line(error)


def _tell_event(tell: Tell, kind: str, migration: Any, detail: str) -> None:
    # What is done is told at the end; each statement would drown it.
    if kind not in ("done", "statement"):
        tell(f"{migration.name}: {detail}" if migration is not None else detail)
