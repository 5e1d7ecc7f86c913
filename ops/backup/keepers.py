"""What a stack's restored server is made to fit: the roles that its secrets open, and the cache before it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from infra.docker.engine import inspect, psql
from infra.spec import roles
from infra.spec.world import World
from ops.backup.errors import BackupError
from ops.errors import OpsError

_TRIES = 20


@dataclass(frozen=True)
class Keepers:
    """`apply_roles(container)` runs before a client can connect; `flush_cache()` before the server is back."""

    apply_roles: Callable[[str], None]
    flush_cache: Callable[[], None]


def keepers_of(world: World, stack: str) -> Keepers:
    """A stack's own. Its secrets are opened now: a passphrase that does not fit is told before anything is done."""
    from ops.connections import environment_of
    from ops.pulumi_stack import PulumiStack

    given = PulumiStack(world, stack).resource_outputs("roles")
    redis_url = environment_of("ops", stack)["REDIS_URL"]
    return Keepers(
        apply_roles=lambda container: apply_roles(container, given["verifiers"], given["connection_limits"]),
        flush_cache=lambda: flush_cache(redis_url, world.name(stack, "redis")),
    )


def apply_roles(container: str, verifiers: dict[str, str], limits: dict[str, int]) -> None:
    """Make the roles, passwords and grants of the server in a container those of the stack."""
    whole = {role: int(limit) for role, limit in limits.items()}
    psql(container, roles.roles_sql(verifiers, whole), options=["--single-transaction"])
    exists = f"SELECT 1 FROM pg_database WHERE datname = '{roles.DATABASE}'"
    if not psql(container, exists).strip():
        psql(container, roles.database_sql())
    psql(container, roles.grants_sql(), database=roles.DATABASE, options=["--single-transaction"])


def flush_cache(redis_url: str, container: str) -> None:
    """Have Redis forget every entry of every namespace: some are of rows that the restore took back.

    `redis_url` is user ops's. A Redis that does not run needs no flush: entries of before its next start are of
    a past epoch.
    """
    found = inspect("container", container)
    if not found or not found[0]["State"]["Running"]:
        return
    from cache.flushing import forget_all
    from cache.keys import epoch_nonce
    from cache.settings import CacheSettings
    from cache.url_source import UrlSource
    from ops.cache_server import connected

    settings = CacheSettings(UrlSource("REDIS_URL", BackupError, redis_url), near_entries=0)
    before, after = epoch_nonce("*").split("*")
    for attempt in range(_TRIES):
        try:
            with connected(settings, None) as server:
                keys = (key.decode() for key in server.redis.scan_iter(epoch_nonce("*"), count=1000))
                namespaces = {key.removeprefix(before).removesuffix(after) for key in keys}
                for namespace in sorted(namespaces | {settings.namespace}):
                    forget_all(server.redis, namespace)
            return
        except OpsError as error:
            if attempt == _TRIES - 1:
                raise BackupError(
                    f"the cache could not be told to forget ({error}); mend or restart {container},"
                    " and run the same command again: it goes on from here"
                ) from error
            time.sleep(0.5)
