"""Parameters and users of Redis on ElastiCache, from the same source as the container's redis.conf and ACL file."""

from __future__ import annotations

from infra.spec.redis_acl import USERS, RedisUser

ENGINE_VERSION = "7.1"
FAMILY = "redis7"
# Commands that ElastiCache reserves: it rejects a user whose rules name one.
RESTRICTED_COMMANDS = frozenset({"acl|load", "config|get", "config|set"})
DEFAULT_ACCESS = "off resetchannels -@all"


def parameters(*, eviction_policy: str, reserved_percent: int) -> dict[str, str]:
    """Return the values of the parameter group. maxmemory follows from the node type and the reserved share."""
    return {
        "maxmemory-policy": eviction_policy,
        "reserved-memory-percent": str(reserved_percent),
        "lazyfree-lazy-eviction": "yes",
        "lazyfree-lazy-expire": "yes",
        "tcp-keepalive": "60",
    }


def access_string(user: RedisUser) -> str:
    """Return a user's rules, as in the ACL file, without the commands that ElastiCache reserves."""
    allowed = tuple(command for command in user.commands if command not in RESTRICTED_COMMANDS)
    rules = RedisUser(user.name, allowed, user.keys).access_string()
    # ElastiCache's users start without keys, and its API does not return this rule, so it would be a permanent diff.
    return f"on {rules.removeprefix('resetkeys ')}"


def access_strings() -> dict[str, str]:
    """Return the rules of every user that may log in, by user name."""
    return {user.name: access_string(user) for user in USERS}
