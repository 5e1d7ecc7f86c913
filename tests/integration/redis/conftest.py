"""Clients of the test Redis as any user, and separate servers for tests of settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.spec.redis_acl import RedisUser
from tests import containers
from tests.containers import Server

As = Callable[..., Any]
# Report a refused login at once, without the retries for an outage.
NO_RETRY: Any = Retry(NoBackoff(), 0)
# Redis allows these to every user, because a connection could not log in otherwise.
BEFORE_LOGIN = {"auth", "hello", "quit", "reset"}

# What a script answers whose caller may not run a command: the text of Redis 7.0, and of 7.2 and Valkey.
REFUSED_IN_SCRIPT = "user executing the script can't|ACL failure in script"


def client_of(server: Server, user: str, **options: Any) -> Any:
    """Return a client with TLS. The type is Any, because redis-py's types mix sync and async answers."""
    return redis.Redis.from_url(server.redis_url(user), driver_info=None, **options)


def allowlist(user: RedisUser, commands: dict[str, int]) -> set[str]:
    """Return the commands that the specification allows. A command includes its subcommands."""
    named = set(user.commands)
    return BEFORE_LOGIN | {name for name in commands if name in named or name.split("|")[0] in named}


@pytest.fixture(scope="module")
def administered(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(administrator=True) as server:
        yield server


@pytest.fixture(scope="module")
def administrator(administered: Server) -> Iterator[Any]:
    with client_of(administered, "administrator") as client:
        yield client


@pytest.fixture(scope="module")
def commands(administrator: Any) -> dict[str, int]:
    """All commands and subcommands (`client|id`) of the server, with the minimum number of words."""
    connection = administrator.connection_pool.get_connection()
    connection.send_command("COMMAND")
    found: dict[str, int] = {}
    for name, arity, *rest in connection.read_response():
        subcommands = {sub[0].decode(): abs(sub[1]) for sub in rest[7]}
        # A command with subcommands is a command itself only if it takes no further words.
        found |= subcommands if subcommands and abs(arity) > 1 else {name.decode(): abs(arity)} | subcommands
    administrator.connection_pool.release(connection)
    return found


@pytest.fixture
def as_user(redis_server: Server) -> Iterator[As]:
    """as_user("app") returns a client of the session's Redis."""
    with ExitStack() as stack:
        yield lambda user, **options: stack.enter_context(client_of(redis_server, user, **options))
