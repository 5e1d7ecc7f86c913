"""The additional monitoring of a stack with replicas: targets for each server, queries and rules.

The label `instance` of each target is its server's name. Exporters use addresses, because resolving the
name of a stopped container takes 10 s. docs/adr/0039 gives the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from infra.monitoring.configuration import (
    CONFIG_DIR,
    DASHBOARDS,
    POSTGRES_QUERIES,
    RULES,
    postgres_uri,
    redis_address,
)
from infra.spec import etcd, postgres, redis
from infra.spec.monitoring import (
    ETCD_JOB,
    PORTS,
    POSTGRES_EXPORTER,
    REDIS_EXPORTER,
    SENTINEL_JOB,
)
from infra.spec.redis_replication import SENTINEL_PORT

REPLICA_RULES = RULES / "replicas"
REPLICA_DASHBOARDS = DASHBOARDS / "replicas"
REPLICA_QUERIES = Path(__file__).with_name("postgres_replica_queries.yml")
PATHS_FILE = "redis_paths.map"
REDIS_ENVIRONMENT = {"PATHS": f"{CONFIG_DIR}/{PATHS_FILE}"}
# A replica archives nothing, and a former primary has the statistics of its time as the primary.
_QUERIES_OF_PRIMARY = ("pg_archiving", "pg_backup")
# etcd has 1,500 series.
_ETCD_METRICS = (
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_quota_backend_bytes",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
)
_CONNECT_SECONDS = 5


def rule_file(name: str) -> dict[str, str]:
    """Return the additional rules for replicas of `postgres` or `redis`, by file name."""
    return {f"rules-{name}-replicas.yml": (REPLICA_RULES / f"{name}.yml").read_text(encoding="utf-8")}


def postgres_jobs(members: Mapping[str, str], stores: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the jobs for a Postgres with replicas. Both arguments map names to addresses."""
    exporters = [
        _target(f"{POSTGRES_EXPORTER}:{port}", member) for member, port in _exporter_ports(members).items()
    ]
    servers = [_target(f"{address}:{etcd.HEALTH_PORT}", store) for store, address in stores.items()]
    return [
        {"job_name": "postgres", "static_configs": exporters},
        {"job_name": ETCD_JOB, "static_configs": servers, "metric_relabel_configs": [_keep(*_ETCD_METRICS)]},
    ]


def redis_jobs(servers: Sequence[str], sentinels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the jobs for a Redis with replicas, from the names of its servers and Sentinels."""
    exporter = f"{REDIS_EXPORTER}:{PORTS[REDIS_EXPORTER]}"
    rename = {
        "source_labels": ["__name__"],
        "regex": "redis_up",
        "target_label": "__name__",
        "replacement": "redis_sentinel_up",
    }
    return [
        {"job_name": "redis", "static_configs": [_target(exporter, each, _path(each)) for each in servers]},
        {
            "job_name": SENTINEL_JOB,
            "static_configs": [_target(exporter, each, _path(each)) for each in sentinels],
            # The rules about Redis must not match Sentinels.
            "metric_relabel_configs": [_keep("redis_up", "redis_sentinel_.*"), rename],
        },
    ]


def postgres_queries() -> str:
    """Return the queries of the exporters of a Postgres with replicas."""
    queries = yaml.safe_load(POSTGRES_QUERIES.read_text(encoding="utf-8"))
    for name in _QUERIES_OF_PRIMARY:
        queries[name]["query"] = f"{queries[name]['query'].rstrip()} WHERE NOT pg_is_in_recovery()"
    return yaml.safe_dump(
        queries | yaml.safe_load(REPLICA_QUERIES.read_text(encoding="utf-8")), sort_keys=False
    )


def postgres_exporters_command(members: Mapping[str, str]) -> list[str]:
    """Return the command line that runs an exporter for each member. `members` maps them to their addresses."""
    servers = [
        (f":{port}", f"{postgres_uri(members[member], postgres.PORT)}&connect_timeout={_CONNECT_SECONDS}")
        for member, port in _exporter_ports(members).items()
    ]
    options = [f"--extend.query-path={CONFIG_DIR}/queries.yml", "--"]
    return ["groundwork-postgres-exporters", *options, *(word for server in servers for word in server)]


def redis_addresses(servers: Mapping[str, str], sentinels: Mapping[str, str]) -> dict[str, str]:
    """Return the address, as redis_exporter writes it, of each server and Sentinel."""
    return {
        **{name: redis_address(address, redis.PORT) for name, address in servers.items()},
        **{name: redis_address(address, SENTINEL_PORT) for name, address in sentinels.items()},
    }


def render_redis_paths(addresses: Mapping[str, str]) -> str:
    """Render the map of the filter before redis_exporter: a path for each server. It forwards no other request."""
    lines = [f"{_path(name)} /scrape?target={address}\n" for name, address in addresses.items()]
    return "".join(["/health /health\n", *lines])


def _exporter_ports(members: Mapping[str, str]) -> dict[str, int]:
    return {member: PORTS[POSTGRES_EXPORTER] + number for number, member in enumerate(members)}


def _path(name: str) -> str:
    return f"/metrics/{name}"


def _target(address: str, server: str, path: str = "") -> dict[str, Any]:
    labels = {"instance": server} | ({"__metrics_path__": path} if path else {})
    return {"targets": [address], "labels": labels}


def _keep(*metrics: str) -> dict[str, Any]:
    return {"source_labels": ["__name__"], "regex": "|".join(metrics), "action": "keep"}
