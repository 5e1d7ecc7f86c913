"""A primary's view of its replicas, in one form for Postgres and Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ops.servers.monitored_postgres import MonitoredPostgres, Row

_QUERY = """
SELECT application_name AS name, host(client_addr) AS address, state,
       sync_state IN ('sync', 'quorum') AS is_synchronous,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes,
       extract(epoch FROM replay_lag)::float AS lag_seconds
FROM pg_stat_replication WHERE state <> 'backup' AND NOT pg_is_in_recovery() ORDER BY 1
"""


def postgres_replicas(postgres: MonitoredPostgres) -> Sequence[Row]:
    """Return the replicas that are connected to the server. Empty if it is a replica itself."""
    return postgres.rows(_QUERY)


def redis_replicas(info: Mapping[str, Any]) -> Sequence[Row]:
    """Return the replicas that are connected to the server, from its INFO. A name is host:port."""
    listed = (info.get(f"slave{number}") for number in range(int(info.get("connected_slaves", 0))))
    return [
        {
            "name": f"{found['ip']}:{found['port']}",
            "address": found["ip"],
            "state": found["state"],
            "is_synchronous": None,
            "lag_bytes": max(int(info["master_repl_offset"]) - int(found["offset"]), 0),
            "lag_seconds": float(found["lag"]) if "lag" in found else None,
        }
        for found in listed
        if found
    ]
