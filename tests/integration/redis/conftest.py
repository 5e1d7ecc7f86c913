"""Clients of the test Redis as any user, and separate servers for tests of settings."""

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
# Report a refused login at once, without the retries for an outage.
NO_RETRY: Any = Retry(NoBackoff(), 0)


def client_of(server: Server, user: str, **options: Any) -> Any:
    """Return a client with TLS. The type is Any, because redis-py's types mix sync and async answers."""
    return redis.Redis.from_url(server.redis_url(user), driver_info=None, **options)


@pytest.fixture
def as_user(redis_server: Server) -> Iterator[As]:
    """as_user("app") returns a client of the session's Redis."""
    with ExitStack() as stack:
        yield lambda user, **options: stack.enter_context(client_of(redis_server, user, **options))
