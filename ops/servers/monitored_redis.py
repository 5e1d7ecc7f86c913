"""Read-only access to Redis as users monitor and ops. Every wait is bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ops.errors import OpsError
from ops.servers.errors import ServerUnreachable, one_line
from ops.servers.monitored_stack import MonitoredStack

ANSWER_SECONDS = 3.0
_T = TypeVar("_T")


class MonitoredRedis:
    """A lazy connection for each of the two users."""

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
        """Return INFO of the given sections, or of the default ones."""
        return self._ask(lambda: self._monitor.info(*sections))

    def clients(self) -> list[dict[str, str]]:
        """Return CLIENT LIST."""
        return self._ask(lambda: self._monitor.client_list())

    def config(self) -> dict[str, str]:
        """Return CONFIG GET * as user ops."""
        return self._ask(lambda: self._ops.config_get("*"))

    def acl(self) -> list[str]:
        """Return ACL LIST as user ops."""
        return self._ask(lambda: self._ops.acl_list())

    def commands(self, category: str | None = None) -> list[str]:
        """Return COMMAND LIST of one ACL category or of all, as user ops. A subcommand is `client|id`."""
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
            raise ServerUnreachable(f"cannot reach {self.name}: {one_line(error)}") from error
        except redis.RedisError as error:
            raise OpsError(f"{self.name} rejects a command: {one_line(error)}") from error


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
