"""Read-only access to Redis as users monitor and ops. Every wait is bounded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import redis

from cache.errors import CacheSettingError
from infra.outputs import address_of, server_urls
from ops.errors import OpsError
from ops.servers.errors import ServerUnreachable, one_line
from ops.servers.monitored_stack import MonitoredStack
from ops.servers.redis_primary import client_of, named_urls, primary_url

_T = TypeVar("_T")


class MonitoredRedis:
    """A lazy connection for each of the two users, to the primary if there are replicas."""

    def __init__(self, stack: MonitoredStack) -> None:
        self._stack = stack
        self._clients: list[Any] = []
        # host:port of the server that was used last.
        self.address = ""

    def close(self) -> None:
        for client in self._clients:
            client.close()

    @property
    def name(self) -> str:
        return f"Redis at {', '.join(map(address_of, server_urls(self._stack.redis_url)))}"

    def replication(self) -> dict[str, dict[str, Any] | OpsError]:
        """Return INFO replication of every server by name, or the error of one that does not answer."""
        found: dict[str, dict[str, Any] | OpsError] = {}
        for name, url in named_urls(self._stack.redis_url).items():
            try:
                with client_of(url, self._stack.login) as client:
                    found[name] = client.info("replication")
            except (redis.RedisError, OSError, CacheSettingError) as error:
                found[name] = ServerUnreachable(one_line(error))
        return found

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
        return self._client(self._stack.redis_url)

    @cached_property
    def _ops(self) -> Any:
        return self._client(self._stack.ops_redis_url)

    def _client(self, url: str) -> Any:
        primary = primary_url(url, self._stack.name)
        self.address = address_of(primary)
        self._clients.append(client_of(primary, self._stack.login))
        return self._clients[-1]

    def _ask(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except CacheSettingError as error:
            raise ServerUnreachable(f"cannot log in to {self.name}: {error}") from error
        except (redis.AuthenticationError, redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise ServerUnreachable(f"cannot reach {self.name}: {one_line(error)}") from error
        except redis.RedisError as error:
            raise OpsError(f"{self.name} rejects a command: {one_line(error)}") from error
