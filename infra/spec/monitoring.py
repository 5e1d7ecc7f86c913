"""Names and numbers of the monitoring that several parts share: jobs, services, user ids, ports."""

from __future__ import annotations

from typing import Final

PROMETHEUS: Final = "prometheus"
POSTGRES_EXPORTER: Final = "postgres-exporter"
REDIS_EXPORTER: Final = "redis-exporter"
# The containers, in the order in which commands list them.
SERVICES: Final = (POSTGRES_EXPORTER, REDIS_EXPORTER, PROMETHEUS)
# The jobs that a stack's Prometheus scrapes without further settings: the label `job` of every series.
JOBS: Final = ("postgres", "redis", "access", "prometheus")
# Additional jobs with replicas of Postgres, and with replicas of Redis.
ETCD_JOB: Final = "etcd"
SENTINEL_JOB: Final = "sentinel"
UIDS: Final = {PROMETHEUS: 10040, POSTGRES_EXPORTER: 10041, REDIS_EXPORTER: 10042}
PORTS: Final = {PROMETHEUS: 9090, POSTGRES_EXPORTER: 9187, REDIS_EXPORTER: 9121}
