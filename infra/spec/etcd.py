"""The etcd members that store who is the primary of a stack with Postgres replicas, and their configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping

from infra.spec.postgres import CONFIG_DIR

UID = GID = 10050
CLIENT_PORT = 2379
PEER_PORT = 2380
# Health and metrics without TLS. Both are open in the data network, also without monitoring: a member is replaced to
# change its listeners, and that can cost the primary its lease.
HEALTH_PORT = 2381
DATA_DIR = "/var/lib/etcd"
MEMBERS = ("etcd-1", "etcd-2", "etcd-3")
# The host part of the first member's address in the data network.
FIRST_ADDRESS = 30
MEMORY = "128MB"

_TLS = {
    "cert-file": f"{CONFIG_DIR}/server.crt",
    "key-file": f"{CONFIG_DIR}/server.key",
    "trusted-ca-file": f"{CONFIG_DIR}/ca.crt",
    # Peers and clients need a certificate of the stack's authority for clients.
    "client-cert-auth": True,
}


def render_conf(member: str, addresses: Mapping[str, str]) -> str:
    """Render a member's etcd.yml. `addresses` maps the members to their addresses in the data network.

    It contains addresses, not names: without a DNS server, the name of a dead container takes 10 s to fail.
    """
    address = addresses[member]
    values = {
        "name": member,
        "data-dir": f"{DATA_DIR}/data",
        "listen-peer-urls": f"https://{address}:{PEER_PORT}",
        "listen-client-urls": f"https://{address}:{CLIENT_PORT}",
        "listen-metrics-urls": f"http://127.0.0.1:{HEALTH_PORT},http://{address}:{HEALTH_PORT}",
        "initial-advertise-peer-urls": f"https://{address}:{PEER_PORT}",
        "advertise-client-urls": f"https://{address}:{CLIENT_PORT}",
        "initial-cluster": ",".join(f"{name}=https://{at}:{PEER_PORT}" for name, at in addresses.items()),
        "initial-cluster-token": "groundwork",
        "initial-cluster-state": "new",
        # An idle etcd spends most of its CPU time on heartbeats. A lost leader is replaced within two election
        # timeouts, which must be less than Patroni's retry timeout.
        "heartbeat-interval": 300,
        "election-timeout": 1500,
        "quota-backend-bytes": 64 * 1024**2,
        "auto-compaction-mode": "revision",
        "auto-compaction-retention": "1000",
        "snapshot-count": 5000,
        "enable-v2": False,
        # Patroni speaks to the gateway, which a configuration file turns off by default.
        "enable-grpc-gateway": True,
        "logger": "zap",
        "log-level": "warn",
        "client-transport-security": _TLS,
        "peer-transport-security": _TLS,
    }
    # JSON is YAML too.
    return json.dumps(values, indent=2) + "\n"
