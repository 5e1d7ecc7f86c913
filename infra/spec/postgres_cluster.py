"""A Postgres with replicas under Patroni: its members, and the configuration of Patroni.

Patroni keeps the settings of all members in etcd (`dynamic_configuration`). A member's own file has only what differs
between members, and what is needed to reach etcd.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.spec import etcd
from infra.spec.backup import PGBACKREST, PGDATA
from infra.spec.postgres import CONFIG_DIR, PORT, SOCKET_DIR, render_hba
from infra.spec.roles import REPLICATOR

# The first member has the names of a single server, whose data it adopts.
MEMBERS = ("postgres", "postgres-2", "postgres-3")
REPLICAS = len(MEMBERS) - 1
FIRST_ADDRESS = 20
# The host parts of all static addresses are below 64.
LONGEST_PREFIX = 26
CONFIG_FILE = f"{CONFIG_DIR}/patroni.yml"
REST_PORT = 8008
SCOPE = "groundwork"
# The smallest values that Patroni accepts. A killed primary is replaced TTL_SECONDS after its last renewal.
TTL_SECONDS, LOOP_SECONDS, RETRY_SECONDS = 20, 2, 5
# Bytes; JSON numbers are exact up to here.
_NO_LIMIT = 2**53
# The smallest max_connections that Patroni accepts.
FEWEST_CONNECTIONS = 25
# Patroni gives each connection to its API a thread, without a time limit and before the client has sent a byte. Members
# need a few. Silent connections of others use up the rest.
API_THREADS = 64
API_BACKLOG = 128
# Patroni's processes and threads, beside the server's.
PIDS = 48 + API_THREADS

_TLS = {"certfile": f"{CONFIG_DIR}/server.crt", "keyfile": f"{CONFIG_DIR}/server.key"}
_MAP = "members"
# WAL that the primary keeps for a standby that is behind, and for a slot.
_KEPT_WAL = "1GB"
_MAX_SENDERS = 10
# A replica uses two connections to copy the data, or one to stream, one to rewind, and one with which Patroni compares
# timelines. The limit leaves room for lost connections that still exist on the primary.
REPLICATOR_CONNECTIONS = _MAX_SENDERS
# Parameters of every member. Patroni adds those that are about recovery and replication.
_PARAMETERS = {
    # Members log in with certificates.
    "ssl_ca_file": f"{CONFIG_DIR}/ca.crt",
    "wal_level": "replica",
    "wal_log_hints": "on",
    "hot_standby": "on",
    "max_wal_senders": str(_MAX_SENDERS),
    # There are no slots, so a lost standby cannot fill the disk of the primary. A standby catches up from these files
    # or from the backups.
    "wal_keep_size": _KEPT_WAL,
    # A holder of a server's key can create slots. They keep no more than is kept anyway.
    "max_slot_wal_keep_size": _KEPT_WAL,
    "max_replication_slots": "10",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_receiver_status_interval": "1s",
    # The default of 5 s delays the first commit after a failover.
    "wal_retrieve_retry_interval": "500ms",
}
# A stack with replicas may not set these: Patroni does, or acknowledged writes could be lost.
REFUSED_PARAMETERS = frozenset(_PARAMETERS) | {
    "cluster_name",
    "fsync",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target_timeline",
    "synchronous_commit",
    "synchronous_standby_names",
}


def addresses(subnet: str, members: tuple[str, ...], first: int) -> dict[str, str]:
    """Return the static address of each member: those of the subnet from host part `first` on."""
    network = ipaddress.IPv4Network(subnet)
    return {member: str(network[first + number]) for number, member in enumerate(members)}


def parameters(single: Mapping[str, str]) -> dict[str, str]:
    """Return every parameter of a member, from those of a single server."""
    return {**single, **_PARAMETERS}


def dynamic_configuration(values: Mapping[str, str], *, has_archive: bool) -> dict[str, Any]:
    """Return the configuration that the members share, with these parameters of Postgres."""
    postgresql: dict[str, Any] = {
        "use_pg_rewind": True,
        "use_slots": False,
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
        # Patroni itself sets those of the address.
        "parameters": {k: v for k, v in values.items() if k not in ("listen_addresses", "port")},
        "pg_hba": render_hba(members=_MAP).splitlines(),
        "pg_ident": [f"{_MAP} {member} {REPLICATOR}" for member in MEMBERS],
    }
    if has_archive:
        postgresql["recovery_conf"] = {"restore_command": f'{PGBACKREST} archive-get %f "%p"'}
    return {
        "ttl": TTL_SECONDS,
        "loop_wait": LOOP_SECONDS,
        "retry_timeout": RETRY_SECONDS,
        # A commit is acknowledged when a standby has it too. Strict: without a standby, no write is acknowledged.
        "synchronous_mode": True,
        "synchronous_mode_strict": True,
        "synchronous_node_count": 1,
        # The synchronous standby has every acknowledged write, however much of an open transaction it lacks. By default
        # Patroni promotes no standby that is 1 MB behind.
        "maximum_lag_on_failover": _NO_LIMIT,
        # The primary stays while etcd is down, as long as it reaches all members.
        "failsafe_mode": True,
        # A standby takes over at once; it has every acknowledged write.
        "primary_start_timeout": 0,
        "check_timeline": True,
        "postgresql": postgresql,
    }


def authorities_file(accepted: Sequence[int]) -> str:
    """Return the name of the file with the authorities that Patroni's own server trusts, by their generations.

    A running Patroni reads the file again only if its name has changed.
    """
    return f"authorities-{'-'.join(map(str, accepted))}.crt"


def render_member(
    member: str,
    own: str,
    stores: Mapping[str, str],
    *,
    authorities: str = "ca.crt",
    first: Mapping[str, Any] | None = None,
) -> str:
    """Render a member's patroni.yml, as JSON, which is YAML too.

    `own` is the member's address, and `stores` are etcd's by member. `authorities` is the result of `authorities_file`.
    `first` is the dynamic configuration with which this member may start a new cluster. Without it, the member can only
    join one.
    """
    login = {
        "username": REPLICATOR,
        "sslmode": "verify-full",
        "sslrootcert": f"{CONFIG_DIR}/ca.crt",
        "sslcert": _TLS["certfile"],
        "sslkey": _TLS["keyfile"],
    }
    values: dict[str, Any] = {
        "scope": SCOPE,
        "namespace": "/groundwork/",
        "name": member,
        "log": {"level": "INFO", "deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": f"0.0.0.0:{REST_PORT}",
            "connect_address": f"{own}:{REST_PORT}",
            **_TLS,
            "cafile": f"{CONFIG_DIR}/{authorities}",
            "verify_client": "required",
            "thread_pool_size": API_THREADS,
            "request_queue_size": API_BACKLOG,
        },
        "ctl": {"insecure": False, **_TLS, "cacert": f"{CONFIG_DIR}/{authorities}"},
        "etcd3": {
            "hosts": [f"{address}:{etcd.CLIENT_PORT}" for address in stores.values()],
            "protocol": "https",
            "cacert": f"{CONFIG_DIR}/ca.crt",
            "cert": _TLS["certfile"],
            "key": _TLS["keyfile"],
        },
        "postgresql": {
            "listen": f"*:{PORT}",
            "connect_address": f"{own}:{PORT}",
            "data_dir": PGDATA,
            "bin_dir": "/usr/lib/postgresql/15/bin",
            "pgpass": "/tmp/pgpass",
            "use_unix_socket": True,
            "authentication": {"superuser": {"username": "postgres"}, "replication": login, "rewind": login},
            "parameters": {"unix_socket_directories": SOCKET_DIR},
        },
        # A container has no watchdog device.
        "watchdog": {"mode": "off"},
    }
    if first is not None:
        values["bootstrap"] = {
            "dcs": first,
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C.UTF-8"},
                "data-checksums",
                {"auth-local": "peer"},
                {"auth-host": "scram-sha-256"},
            ],
            "post_init": "groundwork-bootstrapped",
        }
    return json.dumps(values, indent=2) + "\n"


def replicator_sql() -> str:
    """Return the SQL that makes the members' role, one statement per line, for a server without Patroni.

    Patroni makes the same role in a new cluster. The role has no password: members log in with their certificates.
    """
    functions = (
        "pg_ls_dir(text, boolean, boolean)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    )
    lines = [
        "SET synchronous_commit = local;",
        f"CREATE ROLE {REPLICATOR} LOGIN REPLICATION CONNECTION LIMIT {REPLICATOR_CONNECTIONS};",
        # PUBLIC loses it (infra.spec.roles), and a member that was the primary needs it to rewind its data.
        f"GRANT CONNECT ON DATABASE postgres TO {REPLICATOR};",
        *(f"GRANT EXECUTE ON FUNCTION pg_catalog.{each} TO {REPLICATOR};" for each in functions),
    ]
    return "\n".join(lines) + "\n"
