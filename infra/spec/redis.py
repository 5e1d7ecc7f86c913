"""What a Redis server of ours is configured with, as redis.conf."""

from __future__ import annotations

from infra.spec.redis_acl import ROTATOR

UID = GID = 10020
PORT = 6379
CONFIG_DIR = "/etc/groundwork"
DATA_DIR = "/var/lib/redis"

EVICTION_POLICIES = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)
# What a restart keeps. none: nothing. rdb: everything after a clean stop, up to the last snapshot after a
# crash. aof: everything after a clean stop, all but the last second after a crash.
PERSISTENCE = {
    "none": {"save": '""', "appendonly": "no"},
    "rdb": {"save": "900 1 300 100 60 10000", "appendonly": "no"},
    "aof": {"save": '""', "appendonly": "yes", "appendfsync": "everysec"},
}
# Has the server take up passwords and certificates from its files. ACL LOAD would cut every connection (7.0), so
# each user gets the passwords of its line. rotator's password travels through a pipe, and the certificate is not
# checked: an expired one must not stand in the way of its successor, and nobody else has this container's loopback.
RELOAD = (
    "sh",
    "-euc",
    f"""
cd {CONFIG_DIR}
answers=$({{
    printf 'AUTH {ROTATOR.name} '; cat {ROTATOR.name}.password; echo
    sed -nE 's/^user ([a-z]+) on ((#[0-9a-f]+ )+).*/ACL SETUSER \\1 resetpass \\2/p' users.acl
    echo CONFIG SET tls-cert-file {CONFIG_DIR}/server.crt tls-key-file {CONFIG_DIR}/server.key \
        tls-ca-cert-file {CONFIG_DIR}/ca.crt
}} | redis-cli -h localhost -p {PORT} --tls --insecure)
if echo "$answers" | grep -vqx OK; then echo "Redis does not take up its files: $answers" >&2; exit 1; fi
""".strip(),
)
# The share of the container's memory that data may take: the rest is for buffers, fragmentation and the
# copy-on-write of a snapshot.
MAXMEMORY_SHARE = 0.75


def configuration(
    *,
    maxmemory_bytes: int,
    eviction_policy: str,
    persistence: str,
    maxclients: int = 1000,
) -> dict[str, str]:
    """Every directive of redis.conf: TLS only, users from the aclfile, dangerous commands' switches off."""
    return {
        "bind": "* -::*",
        "port": "0",
        "tls-port": str(PORT),
        "tls-cert-file": f"{CONFIG_DIR}/server.crt",
        "tls-key-file": f"{CONFIG_DIR}/server.key",
        "tls-ca-cert-file": f"{CONFIG_DIR}/ca.crt",
        # Clients prove themselves by user and password, not by a certificate.
        "tls-auth-clients": "no",
        "tls-protocols": '"TLSv1.2 TLSv1.3"',
        "aclfile": f"{CONFIG_DIR}/users.acl",
        "dir": DATA_DIR,
        "maxmemory": str(maxmemory_bytes),
        "maxmemory-policy": eviction_policy,
        "maxclients": str(maxclients),
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "enable-protected-configs": "no",
        "lazyfree-lazy-eviction": "yes",
        "lazyfree-lazy-expire": "yes",
        "tcp-keepalive": "60",
        **PERSISTENCE[persistence],
    }


def render_conf(
    *,
    maxmemory_bytes: int,
    eviction_policy: str,
    persistence: str,
    maxclients: int = 1000,
) -> str:
    """`configuration` as redis.conf."""
    directives = configuration(
        maxmemory_bytes=maxmemory_bytes,
        eviction_policy=eviction_policy,
        persistence=persistence,
        maxclients=maxclients,
    )
    return "".join(f"{key} {value}\n" for key, value in directives.items())
