"""Clients of a throwaway Redis, as any user, and servers of a test's own where a setting is what it is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.containers import Server

As = Callable[..., Any]
# A refusal is to be seen at once, and not after the patience that an outage deserves.
NO_RETRY: Any = Retry(NoBackoff(), 0)


def client_of(server: Server, user: str, **options: Any) -> Any:
    """A client with TLS, certificate and name checked. Any: redis-py's types mix sync and async answers."""
    return redis.Redis.from_url(server.redis_url(user), driver_info=None, **options)


@pytest.fixture
def as_user(redis_server: Server) -> Iterator[As]:
    """Clients of the session's Redis: as_user("app")."""
    with ExitStack() as stack:
        yield lambda user, **options: stack.enter_context(client_of(redis_server, user, **options))
