"""Verify that a role can log in: with its connection strings, or from one Redis server or Sentinel to the others."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infra.docker.engine import DockerError
from infra.docker.redis_members import redis_members
from infra.outputs import server_urls
from infra.spec import redis_acl
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from infra.spec.rotation import REPLACED_AT_ONCE
from ops.errors import Exit, OpsError

if TYPE_CHECKING:
    from ops.rotation.subject import RotatedStack

_CONNECT_SECONDS = 10
# Postgres counts a login's connections, and the free ones, after it has checked the password. "Too many clients
# already" proves nothing, because Postgres says it before.
_PROOF = re.compile("too many connections for (role|database)|connection slots are reserved")


def try_out(stack: RotatedStack, names: Sequence[str], *, old_is_void: bool = False) -> None:
    """Log in as each role with the URLs of the stack outputs.

    Raise OpsError if one fails. `old_is_void` is whether the old passwords are revoked.
    """
    try:
        _log_in(stack, names)
    except _LoginFailed as error:
        raise _problem(stack.name, error, old_is_void) from None


class _LoginFailed(Exception):
    """A role cannot log in to a server. `code` is the command's exit code."""

    def __init__(self, role: str, server: str, reason: str, code: Exit) -> None:
        super().__init__(reason)
        self.role, self.server, self.reason, self.code = role, server, reason, code


def _log_in(stack: RotatedStack, names: Sequence[str]) -> None:
    database_urls, redis_urls = stack.urls()
    for name in names:
        if url := database_urls.get(name):
            _log_in_to_postgres(name, url)
        for url in server_urls(redis_urls[name]) if name in redis_urls else ():
            _log_in_to_redis(name, url)
    for user in redis_acl.SERVER_USERS:
        if user.name in names:
            _log_in_between_servers(stack, user)


def _log_in_to_postgres(role: str, url: str) -> None:
    import psycopg

    from db.login import refusal_of
    from db.session import connect

    try:
        with connect(url, connect_timeout=_CONNECT_SECONDS) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        # A role whose sessions fill its limit could otherwise never revoke its old password.
        if _PROOF.search(str(error)):
            return
        refusal = refusal_of(error)
        # Without a state, a certificate is refused.
        refused = refusal.is_final and refusal.sqlstate is not None
        code = Exit.ERROR if refused else Exit.UNREACHABLE
        raise _LoginFailed(role, "Postgres", refusal.reason, code) from None


def _log_in_to_redis(role: str, url: str) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client = redis.Redis.from_url(
        url, socket_timeout=_CONNECT_SECONDS, retry=Retry(NoBackoff(), 0), driver_info=None
    )
    try:
        with client:
            client.ping()
    except redis.AuthenticationError as error:
        raise _LoginFailed(role, "Redis", str(error), Exit.ERROR) from None
    except (redis.RedisError, ssl.SSLError, OSError) as error:
        raise _LoginFailed(role, "Redis", str(error), Exit.UNREACHABLE) from None


def _log_in_between_servers(stack: RotatedStack, user: redis_acl.RedisUser) -> None:
    """Log in as `user` from every container that does so to every server or Sentinel that must accept it."""
    members = redis_members(stack.checkout.name(stack.name, SERVER_NAMES[0]))
    clients = SERVER_NAMES if user == redis_acl.REPLICA else SENTINEL_NAMES
    targets = SENTINEL_NAMES if user == redis_acl.PEER else SERVER_NAMES
    for client in clients:
        for target in targets:
            try:
                members[client].ask(user, "PING", members[target])
            except KeyError as error:
                raise _LoginFailed(
                    user.name, "Redis", f"{error.args[0]} is missing", Exit.UNREACHABLE
                ) from None
            except DockerError as error:
                refused = "refuses user" in str(error)
                raise _LoginFailed(
                    user.name, target, str(error), Exit.ERROR if refused else Exit.UNREACHABLE
                ) from None


def _problem(stack: str, error: _LoginFailed, old_is_void: bool) -> OpsError:
    # libpq does not report why a certificate is rejected.
    is_refused = "certificate" in error.reason
    renew = f"renew an expired one with `groundwork rotate certificates --stack {stack}`"
    what = renew if is_refused else "fix the cause"
    if error.role in REPLACED_AT_ONCE:
        old = f"the former password of {error.role} is no longer accepted; only groundwork uses it"
    elif old_is_void:
        old = "the old password is revoked"
    else:
        old = "the old password is still accepted"
    return OpsError(
        f"role {error.role} cannot log in to {error.server} with its new password ({error.reason});"
        f" {old}; {what}, then run this command again",
        error.code,
    )
