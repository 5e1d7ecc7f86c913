"""Who answered the reads of the applications: the near cache, Redis or the database.

Prometheus has the metrics of all processes that it scrapes. Without it only the access service's are known.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ops.servers.access_metrics import MetricKey
from ops.servers.errors import ServerUnreachable, one_line
from ops.servers.http_client import fetch_body

# Counters of a process: Prometheus's job, entity, layer and count.
_Counts = Iterable[tuple[str, str, str, float]]

HITS, MISSES = "groundwork_cache_hits_total", "groundwork_cache_misses_total"
NEAR, REDIS, DATABASE = "near", "redis", "database"
# Several scrapes of Prometheus, which are 15 s apart.
_LEAST_SECONDS = 60
_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class EntityReads:
    """The reads of one entity by the processes of one job, by the layer that answered."""

    job: str
    entity: str
    near: float
    redis: float
    database: float

    @property
    def count(self) -> float:
        return self.near + self.redis + self.database

    def share(self, part: float) -> float | None:
        """Return a part of the reads in percent, or None without reads."""
        return 100 * part / self.count if self.count > 0 else None

    @property
    def hit_rate(self) -> float | None:
        """Return the share of reads that the database did not answer, in percent, or None without reads."""
        return self.share(self.near + self.redis)


@dataclass(frozen=True)
class CacheReads:
    """Reads by entity. `source` says where they come from; if they are not known, it says why."""

    source: str
    is_known: bool = False
    by_entity: tuple[EntityReads, ...] = ()

    @property
    def all(self) -> EntityReads:
        near, redis, database = (
            sum(getattr(each, layer) for each in self.by_entity) for layer in (NEAR, REDIS, DATABASE)
        )
        return EntityReads("all", "all", near, redis, database)


NOT_SAMPLED = CacheReads("Not known, because nothing was sampled.")


def cache_reads(
    prometheus_url: str | None,
    sampled: Iterable[Mapping[MetricKey, float] | None],
    seconds: float,
    ask: Callable[[str, Callable[[], Any]], Any],
) -> CacheReads:
    """Return the reads of the last `seconds`, at least of a minute from Prometheus.

    `sampled` are the access service's metrics. `ask` returns the result of a call, or None if the named server does not
    answer.
    """
    why = "This stack has no monitoring"
    if prometheus_url is not None:
        why = "Prometheus did not answer"
        period = max(_LEAST_SECONDS, round(seconds))
        found = ask("Prometheus", lambda: from_prometheus(prometheus_url, period))
        if found is not None:
            jobs = ", ".join(sorted({each.job for each in found})) or "none"
            source = (
                f"In the last {period} s, in all processes that Prometheus scrapes. Jobs with reads: {jobs}."
            )
            return CacheReads(source, True, found)
    known = [metrics for metrics in sampled if metrics is not None]
    if len(known) < 2:
        return CacheReads(f"Not known. {why}, and there are no two samples of an access service.")
    source = f"{why}, so these are only the access service's own reads, while sampling."
    return CacheReads(source, True, from_access(known[0], known[-1]))


def from_access(first: Mapping[MetricKey, float], last: Mapping[MetricKey, float]) -> tuple[EntityReads, ...]:
    """Return the reads between two readings of the access service's metrics."""

    def rises(metric: str) -> _Counts:
        for (name, labels), count in last.items():
            if name == metric:
                by_name, before = dict(labels), first.get((name, labels), 0.0)
                # A smaller count means that the service was restarted, and counts from 0 again.
                rise = count - before if count >= before else count
                yield "access", by_name["entity"], by_name["layer"], rise

    return _by_entity(rises(HITS), rises(MISSES))


def from_prometheus(url: str, seconds: int) -> tuple[EntityReads, ...]:
    """Return the reads of the last `seconds` of all scraped processes. Raise ServerUnreachable without an answer."""

    def rises(metric: str) -> _Counts:
        expression = f"sum by (job, entity, layer) (increase({metric}[{seconds}s]))"
        address = f"{url}/api/v1/query?{urlencode({'query': expression})}"
        try:
            series = json.loads(fetch_body(address, _TIMEOUT_SECONDS))["data"]["result"]
            return [
                # Prometheus extrapolates to the whole period, so an increase is rarely a whole number.
                (labels["job"], labels["entity"], labels["layer"], float(round(float(each["value"][1]))))
                for each in series
                for labels in [each["metric"]]
            ]
        except OSError as error:
            raise ServerUnreachable(f"cannot reach Prometheus at {url}: {one_line(error)}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ServerUnreachable(
                f"Prometheus at {url} gave an unexpected answer: {one_line(error)}"
            ) from error

    return _by_entity(rises(HITS), rises(MISSES))


def _by_entity(hits: _Counts, misses: _Counts) -> tuple[EntityReads, ...]:
    # A miss in the near cache is a read of Redis, and a miss in Redis is one of the database.
    missed = ((job, entity, DATABASE, count) for job, entity, layer, count in misses if layer == REDIS)
    counts: dict[tuple[str, str], dict[str, float]] = {}
    for job, entity, layer, count in (*hits, *missed):
        found = counts.setdefault((job, entity), dict.fromkeys((NEAR, REDIS, DATABASE), 0.0))
        if layer in found:
            found[layer] += count
    reads = (EntityReads(job, entity, **found) for (job, entity), found in sorted(counts.items()))
    return tuple(each for each in reads if each.count > 0)
