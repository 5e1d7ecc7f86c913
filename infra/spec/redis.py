"""The Redis server's configuration: redis.conf, and the command that reloads passwords and certificates."""

from __future__ import annotations

from infra.spec import tls
from infra.spec.redis_acl import REPLICA, ROTATOR

UID = GID = 10020
PORT = 6379
CONFIG_DIR = "/etc/groundwork"
DATA_DIR = "/var/lib/redis"
# The additional configuration of a server with replicas.
REPLICATION_FILE = "replication.conf"

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
# What a restart keeps:
#   none  nothing
#   rdb   after a clean stop everything, if it ends within the container's stop_seconds; after a crash the last snapshot
#   aof   after a clean stop everything, after a crash everything except the last second
# Redis reads only the files of its own mode. The image's entrypoint converts those of another mode, and recognizes the
# mode by these directives (infra/images/redis/groundwork-redis).
PERSISTENCE = {
    "none": {"save": '""', "appendonly": "no"},
    "rdb": {"save": "900 1 300 100 60 10000", "appendonly": "no"},
    "aof": {"save": '""', "appendonly": "yes", "appendfsync": "everysec"},
}
# Makes the server reload passwords and certificates from its files. ACL LOAD of Redis 7.0 closes every connection, so
# the script sets each user's passwords from its line. It passes rotator's password through a pipe. It does not verify
# the server's certificate, because an expired one must not block its replacement; the connection never leaves the
# container's loopback interface. With replicas it also sets the password with which the server logs in to others, and
# tests that the server accepts that password.
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
    if grep -q '^user {REPLICA.name} ' users.acl; then
        sed -nE 's/^masterauth (.*)/CONFIG SET masterauth \\1\\nAUTH {REPLICA.name} \\1/p' {REPLICATION_FILE}
    fi
}} | redis-cli -h localhost -p {PORT} --tls --insecure)
if echo "$answers" | grep -vqx OK; then echo "Redis cannot reload its files: $answers" >&2; exit 1; fi
""".strip(),
)
# The share of the container's memory for data. The rest is for buffers, fragmentation and a snapshot's copy-on-write.
MAXMEMORY_SHARE = 0.75
# The share of maxmemory for the buffers of all clients. Buffers count as used memory, so without a limit a user without
# any key could evict every entry with one large request. At the limit, Redis closes the connections that use the most.
# The minimum lets a client write and read the largest entry (1 MiB). No limit applies to the links of replicas.
CLIENTS_SHARE = 0.2
CLIENTS_MIN_MB = 4
# Limits of what Redis keeps of clients outside that share: the user name of a failed AUTH in the ACL log, which no user
# may read, and the name of a connection, also in the slow log. The largest entry (1 MiB) fits into a bulk string.
KEPT_OF_CLIENTS = {"acllog-max-len": "0", "slowlog-max-len": "16", "proto-max-bulk-len": str(2 * 1024**2)}


def configuration(
    *,
    maxmemory_bytes: int,
    eviction_policy: str,
    persistence: str,
    maxclients: int = 1000,
) -> dict[str, str]:
    """Return every directive of redis.conf: TLS only, users from the ACL file, dangerous commands disabled."""
    return {
        "bind": "* -::*",
        "port": "0",
        "tls-port": str(PORT),
        "tls-cert-file": f"{CONFIG_DIR}/server.crt",
        "tls-key-file": f"{CONFIG_DIR}/server.key",
        "tls-ca-cert-file": f"{CONFIG_DIR}/ca.crt",
        # Clients authenticate with user and password, without a certificate.
        "tls-auth-clients": "no",
        "tls-protocols": f'"{tls.MIN_VERSION} TLSv1.3"',
        "tls-ciphers": tls.CIPHERS,
        "aclfile": f"{CONFIG_DIR}/users.acl",
        "dir": DATA_DIR,
        "maxmemory": str(maxmemory_bytes),
        "maxmemory-policy": eviction_policy,
        "maxmemory-clients": str(max(int(maxmemory_bytes * CLIENTS_SHARE), CLIENTS_MIN_MB * 1024**2)),
        "maxclients": str(maxclients),
        **KEPT_OF_CLIENTS,
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
    """Render redis.conf."""
    directives = configuration(
        maxmemory_bytes=maxmemory_bytes,
        eviction_policy=eviction_policy,
        persistence=persistence,
        maxclients=maxclients,
    )
    return "".join(f"{key} {value}\n" for key, value in directives.items())
