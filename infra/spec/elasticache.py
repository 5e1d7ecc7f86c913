"""Redis as ElastiCache runs it: parameters and users from the same source as the container's redis.conf and aclfile."""

from __future__ import annotations

from infra.spec.redis_acl import USERS, RedisUser

ENGINE_VERSION = "7.1"
FAMILY = "redis7"
# Commands that ElastiCache keeps for itself: a user that names one is refused.
RESTRICTED_COMMANDS = frozenset({"acl|load", "config|get", "config|set"})
DEFAULT_ACCESS = "off resetchannels -@all"


def parameters(*, eviction_policy: str, reserved_percent: int) -> dict[str, str]:
    """The parameter group. maxmemory follows from the node type, and what is reserved of it."""
    return {
        "maxmemory-policy": eviction_policy,
        "reserved-memory-percent": str(reserved_percent),
        "lazyfree-lazy-eviction": "yes",
        "lazyfree-lazy-expire": "yes",
        "tcp-keepalive": "60",
    }


def access_string(user: RedisUser) -> str:
    """A user's rules, as the aclfile has them, less what ElastiCache keeps for itself."""
    allowed = tuple(command for command in user.commands if command not in RESTRICTED_COMMANDS)
    rules = RedisUser(user.name, allowed, user.keys).access_string()
    # A user here begins without keys, and is given back without the rule that says so: a difference for ever.
    return f"on {rules.removeprefix('resetkeys ')}"


def access_strings() -> dict[str, str]:
    """User -> rules, of everybody who may log in."""
    return {user.name: access_string(user) for user in USERS}
