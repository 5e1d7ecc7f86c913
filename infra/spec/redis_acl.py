"""Who may do what in Redis: one source for the local aclfile and ElastiCache's access strings.

Every user starts from nothing; a command that is not named here is refused, also one that a later Redis
brings. `groundwork` tells redis-py to send no driver info: CLIENT SETINFO does not exist before 7.2, and
naming it here would stop a 7.0 server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

KEY_PREFIX = "gw:"
LEASE_PREFIX = "gwl:"


@dataclass(frozen=True)
class RedisUser:
    """A Redis user: its commands (subcommands as `client|id`) and its key patterns."""

    name: str
    commands: tuple[str, ...]
    keys: tuple[str, ...]

    def access_string(self) -> str:
        """The rules without name and password, in the syntax that ACL SETUSER and ElastiCache share."""
        keys = " ".join(f"~{pattern}" for pattern in self.keys)
        commands = " ".join(f"+{command}" for command in self.commands)
        return " ".join(part for part in ("resetkeys", keys, "resetchannels", "-@all", commands) if part)


APP = RedisUser(
    "app",
    (
        "get",
        "mget",
        "set",
        "del",
        "unlink",
        "exists",
        "expire",
        "pttl",
        "incr",
        "evalsha",
        "script|load",
        # Its run id tells a restart, after which what Redis restored is not read.
        "info",
        "multi",
        "exec",
        "ping",
        "hello",
        "auth",
        "client|tracking",
        "client|id",
    ),
    (f"{KEY_PREFIX}*", f"{LEASE_PREFIX}*"),
)
OPS = RedisUser(
    "ops",
    (
        "scan",
        "unlink",
        "get",
        "mget",
        "set",
        "del",
        "ttl",
        "pttl",
        "type",
        "exists",
        "evalsha",
        "script|load",
        "memory|usage",
        "dbsize",
        "info",
        "latency|latest",
        "latency|history",
        "latency|doctor",
        "latency|reset",
        "slowlog|get",
        "slowlog|len",
        "slowlog|reset",
        "client|list",
        "client|id",
        "client|kill",
        "client|info",
        "client|getname",
        "client|setname",
        "config|get",
        "acl|list",
        "acl|getuser",
        "acl|load",
        "acl|whoami",
        "command",
        "command|count",
        "command|list",
        "command|docs",
        "command|info",
        "ping",
        "hello",
        "auth",
        "select",
    ),
    (f"{KEY_PREFIX}*", f"{LEASE_PREFIX}*"),
)
MONITOR = RedisUser(
    "monitor",
    (
        "info",
        "latency|latest",
        "latency|history",
        "dbsize",
        "client|list",
        "ping",
        "hello",
        "auth",
    ),
    (),
)
USERS = (APP, OPS, MONITOR)
# Of a server in a container only, and its password never leaves it: has the server take up changed passwords and
# certificates without a restart (ACL LOAD of 7.0 would cut every connection). Who is rotator could be anybody.
ROTATOR = RedisUser(
    "rotator",
    ("acl|setuser", "config|set", "ping", "hello", "auth"),
    (),
)
LOCAL_USERS = (*USERS, ROTATOR)


def render_rules() -> str:
    """The aclfile without passwords: a change of it is taken up by a restart, passwords are without one."""
    return render_aclfile({user.name: () for user in LOCAL_USERS})


def render_aclfile(passwords: Mapping[str, tuple[str, ...]]) -> str:
    """The aclfile: `default` off, and each user with the SHA-256 of each of its passwords.

    `passwords` maps user names to one password, or two while a rotation is under way.
    """
    # Without a password rather than `nopass`: protected mode would turn every remote client away.
    lines = ["user default off resetpass resetkeys resetchannels -@all"]
    for user in LOCAL_USERS:
        hashes = [f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in passwords[user.name]]
        lines.append(" ".join(["user", user.name, "on", *hashes, user.access_string()]))
    return "\n".join(lines) + "\n"
