"""Redis with replicas: the additional configuration of each server, the Sentinels, and how both start.

Sentinels replace a primary that does not answer. Two primaries never accept writes at the same time, because a primary
without a replica that has answered within MAX_LAG_SECONDS refuses them, and Sentinels wait for longer than that
(docs/adr/0036). Servers and Sentinels use addresses: resolving the name of a stopped container blocks for 10 s.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from infra.spec import redis, tls
from infra.spec.redis_acl import PEER, REPLICA, SENTINEL, RedisUser

# A stack has this many replicas or none. With only one, the loss of the replica would make the primary refuse writes.
REPLICAS = 2
SERVERS = REPLICAS + 1
SENTINELS = 3
# The services. The first server is that of a Redis without replicas, so that it keeps its data.
SERVER_NAMES = ("redis", *(f"redis-{n + 1}" for n in range(1, SERVERS)))
SENTINEL_NAMES = tuple(f"sentinel-{n + 1}" for n in range(SENTINELS))
# The position of the first address of the servers and of the Sentinels in the data network's subnet.
FIRST_SERVER_ADDRESS = 40
FIRST_SENTINEL_ADDRESS = 50
# A smaller subnet does not contain the last Sentinel's address.
LONGEST_PREFIX = 26
# The name of the group of servers in Sentinel's configuration.
GROUP = "groundwork"
SENTINEL_PORT = 26379
SENTINEL_MEMORY = "64MB"
# For the buffers of all clients. Without a limit, one large request could use up the container's memory.
_SENTINEL_CLIENTS_BYTES = 16 * 1024**2
_QUORUM = 2
# A primary without replicas refuses writes after MAX_LAG_SECONDS, at most 1 s more because Redis compares whole
# seconds, and at most 1 s more until its next check. A replica must not be promoted earlier, so DOWN is that long.
_MAX_LAG_SECONDS = 2
FENCE = {"min-replicas-to-write": "1", "min-replicas-max-lag": str(_MAX_LAG_SECONDS)}
_DOWN_MS = (_MAX_LAG_SECONDS + 2) * 1000
# If the Sentinels' first election fails, as on a busy machine, the next one begins after twice this time.
_FAILOVER_MS = 5_000

SENTINEL_FILE = "sentinel.conf"
_SERVER_CONF = f"{redis.CONFIG_DIR}/{redis.REPLICATION_FILE}"
_SENTINEL_CONF = f"{redis.CONFIG_DIR}/{SENTINEL_FILE}"


def server_at(address: str) -> str:
    """Return the name of the server with this address in the data network."""
    # Every subnet begins at a multiple of the smallest subnet's size.
    place = int(IPv4Address(address)) % 2 ** (32 - LONGEST_PREFIX) - FIRST_SERVER_ADDRESS
    return SERVER_NAMES[place] if 0 <= place < SERVERS else address


def server_configuration(*, address: str, replica_password: str, buffer_bytes: int) -> dict[str, str]:
    """Return the directives that a server with this address has in addition to those of `redis.configuration`.

    `buffer_bytes` limits what the primary keeps for replicas that are behind. It is not a part of maxmemory.
    """
    return {
        "tls-replication": "yes",
        "masteruser": REPLICA.name,
        "masterauth": replica_password,
        "replica-announce-ip": address,
        "replica-announce-port": str(redis.PORT),
        **FENCE,
        "repl-ping-replica-period": "1",
        "repl-timeout": "5",
        "repl-diskless-sync-delay": "0",
        "client-output-buffer-limit": f"replica {buffer_bytes} {buffer_bytes // 2} 60",
    }


def buffer_bytes(*, memory_bytes: int, maxmemory_bytes: int) -> int:
    """Return the limit for replicas that are behind: half of the memory that is not for data."""
    return (memory_bytes - maxmemory_bytes) // 2


def render_server_conf(*, address: str, replica_password: str, buffer_bytes: int) -> str:
    """Render the file that a server reads in addition to redis.conf."""
    return _lines(
        server_configuration(address=address, replica_password=replica_password, buffer_bytes=buffer_bytes)
    )


def render_sentinel_conf(*, address: str, sentinel_password: str, peer_password: str) -> str:
    """Render the configuration of the Sentinel with this address, without the server that it monitors."""
    return _lines(
        {
            "port": "0",
            "tls-port": str(SENTINEL_PORT),
            "tls-cert-file": f"{redis.CONFIG_DIR}/server.crt",
            "tls-key-file": f"{redis.CONFIG_DIR}/server.key",
            "tls-ca-cert-file": f"{redis.CONFIG_DIR}/ca.crt",
            "tls-auth-clients": "no",
            "tls-replication": "yes",
            "tls-protocols": f'"{tls.MIN_VERSION} TLSv1.3"',
            "tls-ciphers": tls.CIPHERS,
            "aclfile": f"{redis.CONFIG_DIR}/users.acl",
            "dir": redis.DATA_DIR,
            "maxmemory-clients": str(_SENTINEL_CLIENTS_BYTES),
            **redis.KEPT_OF_CLIENTS,
            "sentinel announce-ip": address,
            "sentinel announce-port": str(SENTINEL_PORT),
            "sentinel sentinel-user": PEER.name,
            "sentinel sentinel-pass": peer_password,
            "sentinel deny-scripts-reconfig": "yes",
            f"sentinel auth-user {GROUP}": SENTINEL.name,
            f"sentinel auth-pass {GROUP}": sentinel_password,
            f"sentinel down-after-milliseconds {GROUP}": str(_DOWN_MS),
            f"sentinel failover-timeout {GROUP}": str(_FAILOVER_MS),
            f"sentinel parallel-syncs {GROUP}": str(REPLICAS),
        }
    )


def server_entrypoint(identity: str, first_primary: str | None) -> list[str]:
    """Return the entrypoint of a server. `first_primary` is the address that it replicates at its first start, if any.

    Sentinel stores the role in the file that the server was started with, which must therefore be writable. At each
    start the file is written again from the configuration and the role, because Sentinel's CONFIG REWRITE copies every
    setting into it. A file of another `identity` belongs to earlier servers with other addresses, and is deleted.
    """
    role = "" if first_primary is None else f"replicaof {first_primary} {redis.PORT}"
    script = f"""
umask 077
file={redis.DATA_DIR}/node-{identity}.conf
find {redis.DATA_DIR} -maxdepth 1 -name 'node-*.conf' ! -name "${{file##*/}}" -delete
role=$1
if [ -e "$file" ]; then role=$(grep '^replicaof ' "$file" | tail -n 1 || true); fi
printf 'include %s\ninclude %s\n%s\n' {redis.CONFIG_DIR}/redis.conf {_SERVER_CONF} "$role" > "$file.new"
mv "$file.new" "$file"
exec groundwork-redis "$file"
"""
    return ["tini", "--", "sh", "-euc", script.strip(), "sh", role]


def sentinel_entrypoint(identity: str, first_primary: str) -> list[str]:
    """Return the entrypoint of a Sentinel. `first_primary` is the address that it monitors at its first start.

    A Sentinel stores its state in its configuration file. At each start the settings are written again, and the state
    is kept.
    """
    script = f"""
umask 077
file={redis.DATA_DIR}/sentinel-{identity}.conf
find {redis.DATA_DIR} -maxdepth 1 -name 'sentinel-*.conf' ! -name "${{file##*/}}" -delete
known="sentinel monitor {GROUP} $1 {redis.PORT} {_QUORUM}"
kept='monitor|myid|current-epoch|config-epoch|leader-epoch|known-replica|known-sentinel'
if [ -e "$file" ]; then known=$(grep -E "^sentinel ($kept) " "$file"); fi
{{ cat {_SENTINEL_CONF}; printf '%s\n' "$known"; }} > "$file.new"
mv "$file.new" "$file"
exec redis-server "$file" --sentinel
"""
    return ["tini", "--", "sh", "-euc", script.strip(), "sh", first_primary]


# The configuration file and the directive with the password of each user that only servers and Sentinels log in as.
_PASSWORD_DIRECTIVES = {
    REPLICA.name: (redis.REPLICATION_FILE, "masterauth"),
    SENTINEL.name: (SENTINEL_FILE, f"sentinel auth-pass {GROUP}"),
    PEER.name: (SENTINEL_FILE, "sentinel sentinel-pass"),
}


def redis_command(user: RedisUser, command: str, port: int, host: str = "localhost") -> tuple[str, ...]:
    """Return the command that runs a Redis command as `user`, in a container that has the user's password.

    It prints OK, the answer to AUTH, and then the answer to `command`. The password goes through a pipe.
    """
    if user.name in _PASSWORD_DIRECTIVES:
        file, directive = _PASSWORD_DIRECTIVES[user.name]
        login = f"sed -n 's/^{directive} /AUTH {user.name} /p' {file}"
    else:
        login = f"printf 'AUTH {user.name} '; cat {user.name}.password; echo"
    script = f"""
cd {redis.CONFIG_DIR}
{{ {login}; echo '{command}'; }} | timeout 5 redis-cli -h {host} -p {port} --tls --cacert ca.crt
"""
    return "sh", "-euc", script.strip()


# Succeeds if the Sentinel answers.
SENTINEL_HEALTH = (
    "bash",
    "-c",
    f"""
cd {redis.CONFIG_DIR} || exit
answer=$(exec timeout 3 redis-cli -h localhost -p {SENTINEL_PORT} --tls --cacert ca.crt \
    <<< "AUTH monitor $(< monitor.password)"$'\nPING' 2>&1)
[[ $answer == *PONG* ]] || {{ echo "${{answer:-no answer within 3 s}}"; exit 1; }}
""".strip(),
)


def _lines(directives: dict[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in directives.items())
