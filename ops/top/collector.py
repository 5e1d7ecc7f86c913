"""The servers of a stack, each read in its own thread, and the snapshot of their last readings."""

from __future__ import annotations

import time
from collections.abc import Callable

from infra.outputs import address_of
from ops.report.cache_reads import EntityReads, cache_reads, from_prometheus
from ops.servers.monitored_stack import MonitoredStack
from ops.servers.redis_primary import named_urls
from ops.top import summary
from ops.top.snapshot import Snapshot
from ops.top.sources import AccessSource, PostgresSource, RedisSource
from ops.top.watch import Pace, Watch

# Prometheus scrapes every 15 s.
_PROMETHEUS_SECONDS = 15.0
_READS_SECONDS = 60


class _PrometheusSource:
    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> tuple[EntityReads, ...]:
        return from_prometheus(self._url, _READS_SECONDS)

    def close(self) -> None:
        pass


class Collector:
    """Reads all servers of a stack. `on_read` is called in a thread after each reading."""

    def __init__(
        self,
        stack: MonitoredStack,
        interval: float,
        *,
        wants_statements: bool,
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        self._stack = stack
        self._pace = Pace(interval)
        self._postgres_source = PostgresSource(stack, wants_statements)
        self._postgres = Watch(self._postgres_source, self._pace, on_read)
        self._redis = Watch(RedisSource(stack), self._pace, on_read)
        self._access = None
        if stack.access_url is not None:
            self._access = Watch(AccessSource(stack.access_url), self._pace, on_read)
        self._prometheus = None
        if stack.prometheus_url is not None:
            source = _PrometheusSource(stack.prometheus_url)
            self._prometheus = Watch(source, Pace(_PROMETHEUS_SECONDS), on_read)
        redis_servers = {address_of(url): name for name, url in named_urls(stack.redis_url).items()}
        self._redis_address = ", ".join(redis_servers)
        self._redis_names = redis_servers if len(redis_servers) > 1 else {}
        self._redis_replicas = stack.redis_replicas

    @property
    def interval(self) -> float:
        """The seconds between two readings."""
        return self._pace.interval

    def start(self) -> None:
        """Read all servers until `stop`."""
        for watch in self._watches:
            watch.start()

    def read_twice(self) -> None:
        """Read all servers, wait for the interval, and read them again, so that the rates are known."""
        for watch in self._watches:
            # Prometheus has rates, so one reading is enough.
            watch.start(1 if watch is self._prometheus else 2)
        for watch in self._watches:
            watch.join()

    def stop(self, patience: float | None = None) -> None:
        """End the threads and close the connections. With `patience`, do not wait longer for a server's answer."""
        for watch in self._watches:
            watch.stop()
        for watch in self._watches:
            watch.join(patience)

    def change(self, interval: float, wants_statements: bool) -> None:
        """Change the interval, and whether statements are read. What is wanted now or sooner is read at once."""
        is_new = wants_statements and not self._postgres_source.wants_statements
        is_sooner = interval < self._pace.interval
        self._pace.interval, self._postgres_source.wants_statements = interval, wants_statements
        for watch in self._watches:
            # The interval of Prometheus is its own.
            if watch is not self._prometheus and (is_sooner or (is_new and watch is self._postgres)):
                watch.read_now()

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        now = time.monotonic()
        access = self._access
        host, port = self._stack.postgres_address
        sampled = (
            []
            if access is None
            else [seen.metrics for seen in (access.seen.previous, access.seen.last) if seen]
        )
        prometheus = self._prometheus.seen.last if self._prometheus is not None else None
        return summary.snapshot(
            self._stack.name,
            self._stack.target,
            self.interval,
            summary.postgres(
                self._postgres.seen,
                f"{host}:{port}",
                max(len(self._stack.members) - 1, 0),
                now,
                self._stack.postgres_servers,
            ),
            summary.redis(
                self._redis.seen, self._redis_address, self._redis_replicas, now, self._redis_names
            ),
            None if access is None else summary.access(access.seen, self._stack.access_url or "", now),
            summary.cache(
                cache_reads(self._stack.prometheus_url, sampled, _READS_SECONDS, lambda *_: prometheus)
            ),
        )

    @property
    def _watches(self) -> list[Watch[object]]:
        found = (self._postgres, self._redis, self._access, self._prometheus)
        return [watch for watch in found if watch is not None]  # type: ignore[misc]
