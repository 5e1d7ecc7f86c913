"""Redis as users monitor and ops see it; only reads, and every wait is bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ops.errors import OpsError
from ops.monitored_stack import MonitoredStack
from ops.server_errors import ServerUnreachable, one_line

ANSWER_SECONDS = 3.0
_T = TypeVar("_T")


class MonitoredRedis:
    """A connection for each of the two users, made on first use."""

    def __init__(self, stack: MonitoredStack) -> None:
        self._stack = stack

    def close(self) -> None:
        for client in (self._monitor, self._ops):
            client.close()

    @property
    def name(self) -> str:
        host, port = self._stack.redis_address
        return f"Redis at {host}:{port}"

    def info(self, *sections: str) -> dict[str, Any]:
        """INFO of the named sections, or of the usual ones."""
        return self._ask(lambda: self._monitor.info(*sections))

    def clients(self) -> list[dict[str, str]]:
        """CLIENT LIST."""
        return self._ask(lambda: self._monitor.client_list())

    def config(self) -> dict[str, str]:
        """CONFIG GET of everything, as user ops."""
        return self._ask(lambda: self._ops.config_get("*"))

    def acl(self) -> list[str]:
        """ACL LIST, as user ops."""
        return self._ask(lambda: self._ops.acl_list())

    def commands(self, category: str | None = None) -> list[str]:
        """COMMAND LIST, of one ACL category or of all; subcommands as `client|id`. As user ops."""
        return self._ask(lambda: self._ops.command_list(category=category))

    @cached_property
    def _monitor(self) -> Any:
        return _client(self._stack.redis_url)

    @cached_property
    def _ops(self) -> Any:
        return _client(self._stack.ops_redis_url)

    def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except (redis.AuthenticationError, redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise ServerUnreachable(f"{self.name} is not reached: {one_line(error)}") from error
        except redis.RedisError as error:
            raise OpsError(f"{self.name} refuses a command of ours: {one_line(error)}") from error


def _client(url: str) -> Any:
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in Redis 7.0, nor in the ACL.
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
