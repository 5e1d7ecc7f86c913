"""What a stack promises if a server fails: output `expected.highAvailability`, with which `make verify` compares it.

The times are the longest without an acknowledged write, after the death or freeze of a primary on an otherwise idle
machine. Those of Docker are measured (docs/high-availability.md), those of AWS documented by AWS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DOCKER_POSTGRES_SECONDS, _DOCKER_REDIS_SECONDS = 30, 8
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZ.Failover.html: typically 60 to 120 s.
_RDS_SECONDS = 120


@dataclass(frozen=True)
class HighAvailability:
    """The promises of a stack. A time is None if no other server takes over."""

    postgres_replicas: int
    postgres_failover_seconds: int | None
    redis_replicas: int
    redis_failover_seconds: int | None
    # A primary without a replica refuses writes, so that there are never two primaries.
    redis_is_fenced: bool

    @classmethod
    def on_docker(cls, *, postgres_replicas: int, redis_replicas: int) -> HighAvailability:
        return cls(
            postgres_replicas,
            _DOCKER_POSTGRES_SECONDS if postgres_replicas else None,
            redis_replicas,
            _DOCKER_REDIS_SECONDS if redis_replicas else None,
            redis_is_fenced=redis_replicas > 0,
        )

    @classmethod
    def on_aws(
        cls, *, postgres_replicas: int, has_standby: bool, redis_nodes: int, is_fenced: bool
    ) -> HighAvailability:
        """Return the promises of RDS, whose replicas never take over, and of ElastiCache, which documents no time."""
        return cls(postgres_replicas, _RDS_SECONDS if has_standby else None, redis_nodes - 1, None, is_fenced)

    def as_json(self) -> dict[str, Any]:
        """Return the form of the stack output. `losesNothing` is about acknowledged writes at a failover."""
        return {
            "postgres": {
                "replicas": self.postgres_replicas,
                "failoverSeconds": self.postgres_failover_seconds,
                # Commits wait for the other server: Patroni's synchronous replica, or RDS's standby.
                "losesNothing": self.postgres_failover_seconds is not None,
            },
            "redis": {
                "replicas": self.redis_replicas,
                "failoverSeconds": self.redis_failover_seconds,
                "isFenced": self.redis_is_fenced,
            },
        }
