"""Steps that fit a restored server to its stack: apply the stack's roles and passwords, and flush the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.docker.engine import STOP_LIMIT_SECONDS, docker, inspect
from infra.docker.server_roles import apply_roles
from infra.spec import redis_replication
from infra.spec.checkout import Checkout
from ops.backup.errors import BackupError
from ops.errors import OpsError

if TYPE_CHECKING:
    from cache.settings import CacheSettings
    from ops.backup.pgbackrest import Progress

_TRIES = 20


@dataclass(frozen=True)
class PostRestore:
    """`apply_roles(container)` runs before clients can connect, `flush_cache(progress)` before the server starts."""

    apply_roles: Callable[[str], None]
    flush_cache: Callable[[Progress], None]


def post_restore_of(checkout: Checkout, stack: str) -> PostRestore:
    """Return a stack's steps. Secrets are decrypted now, so that a wrong passphrase is reported before any change."""
    from ops.stack.connections import environment_of
    from ops.stack.pulumi_stack import PulumiStack

    given = PulumiStack(checkout, stack).resource_outputs("roles")
    limits = {role: int(limit) for role, limit in given["connection_limits"].items()}
    redis_url = environment_of("ops", stack)["REDIS_URL"]
    return PostRestore(
        apply_roles=lambda container: apply_roles(container, given["verifiers"], limits),
        flush_cache=lambda progress: flush_cache(
            stack,
            redis_url,
            [checkout.name(stack, name) for name in redis_replication.SERVER_NAMES],
            progress,
        ),
    )


def flush_cache(stack: str, redis_url: str, containers: Sequence[str], progress: Progress) -> None:
    """Invalidate the entries of every namespace of a stack, because some are of rows that the restore has removed.

    `redis_url` is that of user ops, and `containers` are those of its servers. A Redis that does not run needs no
    flush: when it starts, a new epoch begins and invalidates all entries. So servers that cannot be reached, for
    example because their certificates have expired, are stopped. The commands that repair them are refused until the
    restore is finished.
    """
    running = [
        found["Name"].lstrip("/") for found in inspect("container", *containers) if found["State"]["Running"]
    ]
    if not running:
        return
    from cache.settings import CacheSettings
    from cache.url_source import UrlSource

    settings = CacheSettings(UrlSource("REDIS_URL", BackupError, redis_url), near_entries=0)
    reason = ""
    for _ in range(_TRIES):
        try:
            invalidate_namespaces(settings)
            return
        except OpsError as error:
            reason = str(error)
            time.sleep(0.5)
    progress(
        f"warning: cannot invalidate the cache ({reason}); stopping {', '.join(running)} instead, because a restart"
        f" invalidates all entries. The next `groundwork up --stack {stack}` starts Redis again"
    )
    docker("stop", *running, timeout_seconds=STOP_LIMIT_SECONDS)


def invalidate_namespaces(settings: CacheSettings) -> None:
    """Invalidate the entries of every namespace. Raise OpsError if Redis cannot be reached."""
    from cache.flushing import invalidate_namespace
    from cache.keys import epoch_nonce
    from ops.cache.server import connected

    before, after = epoch_nonce("*").split("*")
    with connected(settings, None) as server:
        keys = (key.decode() for key in server.redis.scan_iter(epoch_nonce("*"), count=1000))
        namespaces = {key.removeprefix(before).removesuffix(after) for key in keys}
        invalidate_namespace(server.redis, *sorted(namespaces | {settings.namespace}))
