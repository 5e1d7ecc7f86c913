"""Parameters and users of Redis on ElastiCache, from the same source as the container's redis.conf and ACL file."""

from __future__ import annotations

from dataclasses import dataclass

from infra.spec import redis_replication
from infra.spec.redis_acl import USERS, RedisUser


@dataclass(frozen=True)
class Engine:
    """An engine of ElastiCache in one version, and the family of its parameter groups.

    `fixed` are the parameters that the family does not have, because the engine always uses the value that we want.
    """

    name: str
    version: str
    family: str
    fixed: frozenset[str] = frozenset()


# The values of awsRedisEngine. ElastiCache changes an engine in place to one of a later line. Valkey 8 frees memory
# lazily in any case, and AWS removed the parameters (docs/adr/0046).
ENGINES = {
    "redis-7.1": Engine("redis", "7.1", "redis7"),
    "valkey-7.2": Engine("valkey", "7.2", "valkey7"),
    "valkey-8.2": Engine(
        "valkey", "8.2", "valkey8", frozenset({"lazyfree-lazy-eviction", "lazyfree-lazy-expire"})
    ),
}
DEFAULT_ENGINE = "redis-7.1"
# The engine of the users and their group. Valkey accepts them too, and a rollback from Valkey to Redis needs them.
USER_ENGINE = "redis"
# Commands that ElastiCache reserves: it rejects a user whose rules name one.
RESTRICTED_COMMANDS = frozenset({"acl|load", "config|get", "config|set"})
DEFAULT_ACCESS = "off resetchannels -@all"
# The family's own values, from published answers of DescribeCacheParameters (of redis5.0). The provider reads only the
# parameters whose source is `user`, so one that equals the default would be a permanent difference.
DEFAULTS = {
    "maxmemory-policy": "volatile-lru",
    "reserved-memory-percent": "25",
    "lazyfree-lazy-eviction": "no",
    "lazyfree-lazy-expire": "no",
    "tcp-keepalive": "300",
}
# What redisReplicas may be. With one replica, its loss would stop all writes.
FENCED_REPLICAS = redis_replication.REPLICAS


def engines_up_to(key: str) -> list[Engine]:
    """Return an engine, and before it those that it can have replaced in place."""
    keys = list(ENGINES)
    return [ENGINES[each] for each in keys[: keys.index(key) + 1]]


def parameters(
    engine: Engine, *, eviction_policy: str, reserved_percent: int, is_fenced: bool = False
) -> dict[str, str]:
    """Return the parameters that differ from the defaults. maxmemory follows from node type and reserved share.

    A fenced primary refuses writes without a replica, as on Docker.
    """
    wanted = {
        "maxmemory-policy": eviction_policy,
        "reserved-memory-percent": str(reserved_percent),
        "lazyfree-lazy-eviction": "yes",
        "lazyfree-lazy-expire": "yes",
        "tcp-keepalive": "60",
        **(redis_replication.FENCE if is_fenced else {}),
    }
    return {
        name: value
        for name, value in wanted.items()
        if value != DEFAULTS.get(name) and name not in engine.fixed
    }


def access_string(user: RedisUser) -> str:
    """Return a user's rules, as in the ACL file, without the commands that ElastiCache reserves."""
    # A subcommand of an allowed command is not a rule of its own in Redis's form, which AWS may return.
    allowed = tuple(
        command
        for command in user.commands
        if command not in RESTRICTED_COMMANDS
        and not ("|" in command and command.partition("|")[0] in user.commands)
    )
    rules = RedisUser(user.name, allowed, user.keys).access_string()
    # ElastiCache's users start without keys, and its API does not return this rule, so it would be a permanent diff.
    return f"on {rules.removeprefix('resetkeys ')}"


def access_strings() -> dict[str, str]:
    """Return the rules of every user that may log in, by user name."""
    return {user.name: access_string(user) for user in USERS}
