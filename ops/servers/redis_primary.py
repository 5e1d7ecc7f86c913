"""The primary of a Redis with replicas, found by asking each server. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cache.credentials import UrlCredentials
from cache.settings import CacheSettings
from infra.outputs import address_of, server_urls
from infra.spec.redis_replication import SERVER_NAMES
from ops.servers.errors import ServerUnreachable, one_line

ANSWER_SECONDS = 3.0


def client_of(url: str, login: Mapping[str, str] | None = None) -> Any:
    """Return a client of one server, whose calls take a bounded time.

    `login` has the variables with which each connection logs in by a token. Raise CacheSettingError if the URL does not
    allow that. A connection raises it if no token can be made.
    """
    options: dict[str, Any] = {}
    if login:
        settings = CacheSettings.from_environment({**login, "REDIS_URL": url})
        (url,) = settings.server_urls()
        options["credential_provider"] = UrlCredentials(settings)
    return redis.Redis.from_url(
        url,
        **options,
        decode_responses=True,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in Redis 7.0, nor in the ACL.
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


def version_of(info: Mapping[str, Any]) -> str:
    """Return the server's version from its INFO, with the engine's name unless it is Redis.

    In `redis_version` Valkey reports the version of Redis with which it is compatible.
    """
    return f"{info['valkey_version']} (Valkey)" if "valkey_version" in info else str(info["redis_version"])


def primary_url(url: str, stack: str) -> str:
    """Return the URL of the primary among the servers of the stack's `url`, or `url` itself if there is one server.

    Raise ServerUnreachable if no server is a primary whose replicas follow it.
    """
    urls = server_urls(url)
    if len(urls) == 1:
        return url
    reasons = []
    for host, each in named_urls(url).items():
        try:
            with client_of(each) as client:
                replication = client.info("replication")
        except (redis.RedisError, OSError) as error:
            reasons.append(f"{host}: {one_line(error)}")
            continue
        if replication["role"] == "master" and int(replication.get("min_slaves_good_slaves", 0)):
            return each
        role = "a primary without replicas" if replication["role"] == "master" else "a replica"
        reasons.append(f"{host} is {role}")
    raise ServerUnreachable(
        f"no Redis server is the primary ({'; '.join(reasons)}); run the command again when the failover is over,"
        f" or see `groundwork logs --stack {stack}`"
    )


def named_urls(url: str) -> dict[str, str]:
    """Return the URL of each server of `url` by the server's name. Without replicas the name is host:port."""
    urls = server_urls(url)
    return dict(zip(SERVER_NAMES if len(urls) > 1 else [address_of(url)], urls, strict=False))
