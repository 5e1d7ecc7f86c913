"""Makes a running server's Postgres roles match the specification, also against a role that resists.

Postgres lets every role change its own password and settings, at any time. `apply_roles` holds the locks that such a
change needs and ends the sessions that keep it waiting. A retired login loses LOGIN first, which it cannot give itself
again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait

from infra.docker.engine import DockerError, psql
from infra.spec import roles
from infra.spec.postgres_cluster import REPLICATOR_CONNECTIONS

_DEADLINE_SECONDS = 60.0
_TERMINATE_MS = 5000
# A session starts within milliseconds, on a busy machine within a second.
_STARTING_SECONDS = 3.0
_POLL_SECONDS = 0.2
# A change that waits longer than this waits for a session that holds its locks on purpose.
_LOCK_SECONDS = 2.0
# What a change of roles and grants writes to. No application has a reason to hold these locks.
_CATALOGS = ("pg_authid", "pg_auth_members", "pg_db_role_setting", "pg_namespace", "pg_default_acl")
_APPLICATION_NAME = "groundwork roles"
# SHARE ROW EXCLUSIVE lets roles log in, and makes every such change wait for this transaction. In a deadlock, the other
# session fails, because it looks for one after the default of 1 s.
_EXCLUSIVELY = (
    f"SET application_name = '{_APPLICATION_NAME}';\nSET lock_timeout = '{_DEADLINE_SECONDS:.0f}s';\n"
    "SET deadlock_timeout = '10s';\n"
    f"LOCK TABLE {', '.join(_CATALOGS)} IN SHARE ROW EXCLUSIVE MODE;\n"
)
# One row, like `123 migrator`, for each session that a change waits for. It ends those of our logins.
_END_BLOCKERS = f"""
SELECT pid || ' ' || coalesce(blocker.usename, 'the server') FROM (
    SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity
    WHERE application_name = '{_APPLICATION_NAME}' AND usename = CURRENT_USER AND wait_event_type = 'Lock'
) AS blocking JOIN pg_stat_activity AS blocker USING (pid),
LATERAL (SELECT CASE WHEN blocker.usename IN ({roles.quoted(roles.ALL_LOGINS)})
         THEN pg_terminate_backend(pid, {_TERMINATE_MS}) END) AS ended;
"""


def apply_roles(container: str, verifiers: Mapping[str, str], connection_limits: Mapping[str, int]) -> None:
    """Make the server's roles, database and grants match the specification, over the local socket.

    `verifiers` and `connection_limits` are those of `infra.spec.roles.roles_sql`. When this returns, a login without a
    verifier has no LOGIN, no session, no password, and only the settings of the specification.
    Raises DockerError if the server refuses a statement, or if after a minute sessions remain, or a session that is
    not one of our logins still holds a lock.
    """
    _apply_logins(container, verifiers, connection_limits)
    psql(container, _REPLICATOR)
    exists = f"SELECT 1 FROM pg_database WHERE datname = '{roles.DATABASE}'"
    if not psql(container, exists).strip():
        psql(container, roles.database_sql())
    _change(container, roles.grants_sql(), roles.DATABASE)


def fingerprint(container: str) -> str:
    """Return a digest of what is set for our roles: attributes, password, settings, memberships, default privileges."""
    return psql(container, roles.FINGERPRINT_SQL, database=roles.DATABASE).strip()


def _apply_logins(container: str, verifiers: Mapping[str, str], connection_limits: Mapping[str, int]) -> None:
    retired = [login for login in roles.ALL_LOGINS if login not in verifiers]
    if retired:
        _change(container, roles.no_login_sql(retired))
        _end_sessions(container, retired)
    while True:
        _change(container, roles.roles_sql(verifiers, connection_limits))
        # A session that was logging in meanwhile may have changed its password before this.
        if not (retired and _end_sessions(container, retired)):
            return


def _change(container: str, sql: str, database: str = "postgres") -> None:
    """Run `sql` in one transaction, alone. End the sessions of our logins that it waits for."""
    blockers = ""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            psql, container, _EXCLUSIVELY + sql, database=database, options=["--single-transaction"]
        )
        while not wait([running], _LOCK_SECONDS).done:
            blockers = psql(container, _END_BLOCKERS).strip() or blockers
    try:
        running.result()
    except DockerError as error:
        if "lock timeout" not in str(error) or not blockers:
            raise
        raise DockerError(
            f"cannot change the roles of {container}: these sessions (process and role) hold a lock that the change"
            f" needs: {', '.join(blockers.splitlines())}; end their transactions, then run the same command again"
        ) from error


def _end_sessions(container: str, logins: list[str]) -> int:
    """End the sessions of some logins until none remains, and return how many were ended.

    A session that is starting has passed the check of LOGIN and may belong to one of these logins. It is awaited for
    some seconds, and then ended whoever's it is.
    """
    began, awaited, ended = time.monotonic(), None, 0
    ending = roles.end_sessions_sql(logins, _TERMINATE_MS)
    while True:
        # First the starting ones: one that has started in between is then found by the second statement.
        lines = psql(container, roles.STARTING_SESSIONS_SQL + ending).splitlines()
        starting = {line for line in lines if " " in line}
        awaited = starting if awaited is None else awaited & starting
        found = len(lines) - len(starting)
        ended += found
        if not found and not awaited:
            return ended
        now = time.monotonic()
        if now - began > _DEADLINE_SECONDS:
            raise DockerError(
                f"sessions of {', '.join(logins)} remain after {_DEADLINE_SECONDS:.0f} s; "
                f"restart the container {container}, then run the same command again"
            )
        if awaited and now - began > _STARTING_SECONDS:
            pids = ", ".join(line.split()[1] for line in awaited)
            psql(
                container,
                f"SELECT pg_terminate_backend(pid, {_TERMINATE_MS}) FROM unnest(ARRAY[{pids}]) AS pid",
            )
        elif not found:
            time.sleep(_POLL_SECONDS)


# The role is left over if the replicas were turned off. In a cluster, pg_hba.conf accepts it.
_REPLICATOR = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{roles.REPLICATOR}') THEN
    RETURN;
  ELSIF EXISTS (SELECT FROM pg_hba_file_rules WHERE user_name = ARRAY['{roles.REPLICATOR}']) THEN
    ALTER ROLE {roles.REPLICATOR} CONNECTION LIMIT {REPLICATOR_CONNECTIONS};
  ELSE
    DROP OWNED BY {roles.REPLICATOR};
    DROP ROLE {roles.REPLICATOR};
  END IF;
END $$;
"""
