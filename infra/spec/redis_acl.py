"""The Redis users and their permissions: the source of the local ACL file and of ElastiCache's access strings.

Every user starts without permissions, so Redis refuses each command that is not listed here, including commands of
later versions. CLIENT SETINFO is not listed: it exists since Redis 7.2, and a 7.0 server would not start with a rule
that names it. groundwork therefore configures redis-py to send no driver information.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEY_PREFIX = "gw:"
LEASE_PREFIX = "gwl:"


@dataclass(frozen=True)
class RedisUser:
    """A Redis user: its commands (subcommands as `client|id`), its key patterns and its channels."""

    name: str
    commands: tuple[str, ...]
    keys: tuple[str, ...]
    channels: tuple[str, ...] = ()

    def access_string(self) -> str:
        """Return the rules without name and password, in the syntax of both ACL SETUSER and ElastiCache."""
        keys = " ".join(f"~{pattern}" for pattern in self.keys)
        channels = " ".join(f"&{pattern}" for pattern in self.channels)
        commands = " ".join(f"+{command}" for command in self.commands)
        parts = ("resetkeys", keys, "resetchannels", channels, "-@all", commands)
        return " ".join(part for part in parts if part)


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
        # The run id shows a restart; entries that Redis restored at its start are not read.
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
        # Ends a script that blocks the server. Otherwise only a restart would.
        "script|kill",
        "memory|usage",
        "dbsize",
        "info",
        "latency|latest",
        "latency|history",
        "latency|doctor",
        "slowlog|get",
        "slowlog|len",
        "client|list",
        "client|id",
        "client|kill",
        "client|info",
        "client|getname",
        "client|setname",
        # groundwork doctor compares CONFIG GET and ACL LIST with the specification.
        "config|get",
        "acl|list",
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
# Makes a server reload changed passwords and certificates without a restart (see RELOAD in infra.spec.redis). The user
# exists only in containers, and its password never leaves the container, because rotator can set any user's password.
ROTATOR = RedisUser(
    "rotator",
    ("acl|setuser", "config|set", "ping", "hello", "auth"),
    (),
)
LOCAL_USERS = (*USERS, ROTATOR)


# The users of a Redis with replicas, which exist only in containers: replicas log in to the primary, Sentinels to every
# server, and Sentinels to each other.
REPLICA = RedisUser("replica", ("psync", "replconf", "ping"), ())
_HELLO_CHANNEL = "__sentinel__:hello"
SENTINEL = RedisUser(
    "sentinel",
    (
        "multi",
        "exec",
        "slaveof",
        "config|rewrite",
        "client|kill",
        "client|setname",
        "script|kill",
        "publish",
        "subscribe",
        "role",
        "info",
        "ping",
        "auth",
    ),
    (),
    (_HELLO_CHANNEL,),
)
PEER = RedisUser(
    "peer",
    # groundwork asks for a planned failover as this user, because its password never leaves the Sentinels' containers.
    ("publish", "sentinel|is-master-down-by-addr", "sentinel|failover", "client|setname", "ping", "auth"),
    (),
    (_HELLO_CHANNEL,),
)
# The user `monitor` of a Sentinel.
SENTINEL_MONITOR = RedisUser(
    MONITOR.name,
    ("sentinel|master", "sentinel|replicas", "sentinel|ckquorum", "info", "ping", "hello", "auth"),
    (),
)
REPLICATED_USERS = (*LOCAL_USERS, REPLICA, SENTINEL)
SENTINEL_USERS = (PEER, SENTINEL_MONITOR)
# The users whose passwords only servers use.
SERVER_USERS = (REPLICA, SENTINEL, PEER)


def render_rules(users: Sequence[RedisUser] = LOCAL_USERS) -> str:
    """Render the ACL file without passwords. A changed rule needs a restart; a changed password does not."""
    return render_aclfile({user.name: () for user in users}, users)


def render_aclfile(passwords: Mapping[str, tuple[str, ...]], users: Sequence[RedisUser] = LOCAL_USERS) -> str:
    """Render the ACL file: `default` is off, and each user has the SHA-256 of each of its passwords.

    `passwords` maps user names to one password, or to two during a rotation.
    """
    # `default` has no password, rather than `nopass`, with which protected mode would reject every remote client.
    lines = ["user default off resetpass resetkeys resetchannels -@all"]
    for user in users:
        hashes = [f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in passwords[user.name]]
        lines.append(" ".join(["user", user.name, "on", *hashes, user.access_string()]))
    return "\n".join(lines) + "\n"
