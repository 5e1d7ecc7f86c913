"""Prepare the database of a managed server: roles, database, grants, migrations, upkeep.

Used on RDS, whose administrator is not a superuser. On Docker the Pulumi program does this over the container's
socket. Every step is idempotent, and concurrent runs wait for each other. It runs in the access image, without Pulumi.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors as sql_errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import scalar_row

from db.migrator import Event, LockLimits, apply_pending, read_source, short_checksums
from db.session import connect
from db.upkeep import UPKEEP
from infra.spec import rds, roles
from ops.errors import Exit, OpsError
from ops.servers.errors import one_line

Notify = Callable[[str], None]
# The advisory lock is in database `postgres`, which the whole cluster shares. Without it, two tasks that alter a
# role at the same time could fail with "tuple concurrently updated".
_LOCK = 0x67775F626F6F74
_CONNECT_SECONDS = 10
# IAM refuses for some seconds what a policy that was just attached allows.
_IAM_PAUSE_SECONDS = 3.0


@dataclass(frozen=True)
class AdministratorLogin:
    """The role that creates roles: a member of rds_superuser, but not a superuser."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def from_secret(cls, arn: str, wait_seconds: float = 60.0) -> AdministratorLogin:
        """Read the credentials that RDS stores in Secrets Manager. Raise OpsError if they cannot be read.

        A refusal is repeated for `wait_seconds`, because the task's policy may be new.
        """
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise OpsError(
                "reading AWS secrets needs boto3, which is not installed; install the extra aws-access"
            ) from error
        # arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME
        parts = arn.split(":")
        if len(parts) < 7 or parts[2] != "secretsmanager":
            raise OpsError(
                f"{arn!r} is not the ARN of a secret; pass the ARN of the database's master user secret",
                Exit.USAGE,
            )
        try:
            client = boto3.client("secretsmanager", region_name=parts[3])
            answer = repeat_while(
                lambda: client.get_secret_value(SecretId=arn),
                lambda error: isinstance(error, ClientError) and _code(error) == "AccessDeniedException",
                wait_seconds,
            )
            value = json.loads(answer["SecretString"])
            return cls(value["username"], value["password"])
        except ClientError as error:
            raise OpsError(
                f"cannot read the administrator's secret {arn} ({_code(error)}); see docs/aws.md"
            ) from error
        except BotoCoreError as error:
            raise OpsError(f"cannot reach Secrets Manager: {error}", Exit.UNREACHABLE) from error
        except (KeyError, TypeError, ValueError) as error:
            # The content is not shown, because it may contain a password all the same.
            raise OpsError(
                f"secret {arn} does not contain a username and a password; pass the database's master user secret"
            ) from error


def repeat_while(
    call: Callable[[], Any], is_temporary: Callable[[Exception], bool], wait_seconds: float
) -> Any:
    """Return the result of `call`, which is repeated for `wait_seconds` while its error is temporary."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return call()
        except Exception as error:
            if not is_temporary(error) or time.monotonic() > deadline:
                raise
        time.sleep(_IAM_PAUSE_SECONDS)


def bootstrap(
    administrator: AdministratorLogin,
    migrator_conninfo: Callable[[], str],
    connection_limits: Mapping[str, int],
    folder: Path,
    notify: Notify,
    wait_seconds: float = 60.0,
) -> None:
    """Bring the server to the state of the specification and the migrations folder.

    `migrator_conninfo` returns the migrator's connection string with a currently valid token. The administrator
    connects to the same server. Raises OpsError, or errors of db.migrator.
    """
    url = conninfo_to_dict(migrator_conninfo())
    notify(f"database: {url['host']}:{url['port']}/{url['dbname']} as {url['user']}, from DATABASE_URL")
    with _session(administrator, url, "postgres") as connection:
        _lock(connection, wait_seconds)
        with connection.transaction():
            connection.execute(roles.managed_roles_sql(connection_limits, rds.IAM_ROLE))
        notify(f"roles: {', '.join(roles.ALL_LOGINS)}")
        if _make_database(connection):
            notify(f"database {roles.DATABASE}: created")
        with _session(administrator, url, roles.DATABASE) as inside, inside.transaction():
            inside.execute(roles.managed_grants_sql())
        notify("grants: as specified")
    with _translated_errors():
        repeat_while(lambda: connect(migrator_conninfo()).close(), _is_refused_token, wait_seconds)
    limits = LockLimits(migrator_lock_seconds=wait_seconds)
    done = apply_pending(
        migrator_conninfo(),
        read_source(folder),
        limits=limits,
        on_event=lambda event: _notify_of_event(notify, event),
    )
    for step in done:
        notify(f"applied {step.migration.name} ({step.seconds:.2f} s)")
    if not done:
        notify("migrations: nothing pending")
    with _translated_errors(), connect(migrator_conninfo(), search_path=roles.SCHEMA) as connection:
        for upkeep in UPKEEP:
            made = connection.cursor(row_factory=scalar_row).execute(upkeep.query.sql).fetchall()
            notify(f"{upkeep.name}: {', '.join(map(str, made)) or 'nothing to create'}")


def require_migrations(folder: Path, expected: str) -> None:
    """Raise OpsError (4) unless the folder has exactly the migrations that `up` will record as applied.

    `expected` is the digest of them, a colon, and the name of the newest.
    """
    digest, _, newest = expected.partition(":")
    found = short_checksums(read_source(folder))
    if rds.migrations_digest(found) == digest:
        return
    if newest == rds.NO_MIGRATION:
        problem = "has migrations, and the checkout that runs `up` has none"
    elif newest in found:
        problem = f"has other migrations than the checkout that runs `up`, although both have {newest}"
    else:
        problem = f"lacks {newest}, the newest migration of the checkout that runs `up`"
    raise OpsError(
        f"the image {problem}; nothing was changed. Build the image from that checkout, and set"
        " groundwork:awsAccessImage to it, or remove the setting",
        Exit.MISMATCH,
    )


def _make_database(connection: psycopg.Connection[Any]) -> bool:
    """Create the database if it does not exist. Return whether it was created."""
    there = connection.execute("SELECT FROM pg_database WHERE datname = %s", [roles.DATABASE]).fetchone()
    if there is not None:
        return False
    row = connection.execute("SELECT datctype FROM pg_database WHERE datname = 'postgres'").fetchone()
    assert row is not None
    connection.execute(roles.managed_database_sql(row[0]))
    return True


def _lock(connection: psycopg.Connection[Any], wait_seconds: float) -> None:
    # 0 would remove the limit.
    connection.execute(f"SET lock_timeout = {max(int(wait_seconds * 1000), 1)}")
    # The session's timeout for a statement would end a longer wait.
    connection.execute("SET statement_timeout = 0")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    except sql_errors.LockNotAvailable as error:
        raise OpsError(
            f"another bootstrap has been running for {wait_seconds:.0f} s; wait until it has finished",
            Exit.LOCKED,
        ) from error
    # The limits are only for this wait.
    connection.execute("RESET lock_timeout")
    connection.execute("RESET statement_timeout")


@contextmanager
def _session(
    administrator: AdministratorLogin, url: Mapping[str, Any], database: str
) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the administrator, in autocommit mode, to the server of the migrator's connection string."""
    given = {"connect_timeout": str(_CONNECT_SECONDS), **url}
    given |= {"user": administrator.user, "password": administrator.password, "dbname": database}
    # All statements are short. The timeout turns one that hangs into an error.
    given["options"] = "-c statement_timeout=120s"
    given["application_name"] = "groundwork bootstrap"
    # The administrator never runs a function that another role created in a schema of the search_path.
    with _translated_errors(), connect(given, search_path="pg_catalog") as connection:
        yield connection


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise the driver's errors as OpsError. Every connection of this module goes through here."""
    try:
        yield
    except psycopg.OperationalError as error:
        if error.sqlstate is None:
            raise OpsError(f"cannot reach the database: {_line(error)}", Exit.UNREACHABLE) from error
        raise OpsError(f"the database rejected the request ({error.sqlstate}): {_line(error)}") from error
    except psycopg.Error as error:
        raise OpsError(f"the database rejected the request ({error.sqlstate}): {_line(error)}") from error


def _is_refused_token(error: Exception) -> bool:
    # RDS: PAM authentication failed for user "migrator". The driver sets no SQLSTATE while it connects.
    return isinstance(error, psycopg.OperationalError) and "authentication failed" in str(error)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _line(error: psycopg.Error) -> str:
    return error.diag.message_primary or one_line(error)


def _notify_of_event(notify: Notify, event: Event) -> None:
    # Finished migrations are reported at the end. A line per statement would be too much.
    if event.kind not in ("done", "statement"):
        notify(str(event))
