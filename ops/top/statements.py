"""The load of each statement over the last seconds, from the counters of pg_stat_statements."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ops.servers.monitored_postgres import Row

# Long enough for a list that does not change with every reading.
WINDOW_SECONDS = 10.0
_MOST_SHOWN = 100
_MOST_CHARACTERS = 4000
# Without the texts, which the server reads from a file.
_COUNTERS = """
SELECT userid, queryid, toplevel, calls, total_exec_time, rows, shared_blks_hit, shared_blks_read
FROM extensions.pg_stat_statements(showtext => false)
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_INFO = "SELECT stats_reset::text AS stats_reset FROM extensions.pg_stat_statements_info"
_TEXTS = """
SELECT queryid, userid, coalesce(rolname, userid::text) AS login, left(query, %(most)s) AS query
FROM extensions.pg_stat_statements LEFT JOIN pg_roles ON pg_roles.oid = userid
WHERE queryid = ANY(%(wanted)s) AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

Key = tuple[int, int, bool]


class Counters(NamedTuple):
    """Counters of a statement: calls, milliseconds, rows, and buffers found and read."""

    calls: int
    ms: float
    rows: int
    hit: int
    read: int


class StatementSampler:
    """Reads pg_stat_statements, and keeps the readings of the last seconds. `rows` runs a query."""

    def __init__(self, rows: Callable[..., Sequence[Row]]) -> None:
        self._rows = rows
        self._epoch = ""
        self._kept: deque[tuple[float, Mapping[Key, Counters]]] = deque()
        self._texts: dict[tuple[int, int], tuple[str, str]] = {}
        self.seconds: float | None = None

    def read(self, epoch: str) -> Sequence[Row] | None:
        """Return the statements that were called in the last seconds, those with the most load first.

        `epoch` differs after a restart of the server. Return None if there is no earlier reading to compare with.
        """
        epoch += str(self._rows(_INFO)[0]["stats_reset"])
        if epoch != self._epoch:
            self._epoch = epoch
            self._kept.clear()
        at, counters = time.monotonic(), self._counters()
        # With a long interval only one reading is kept.
        while len(self._kept) > 1 and at - self._kept[0][0] > WINDOW_SECONDS:
            self._kept.popleft()
        before = self._kept[0] if self._kept else None
        self._kept.append((at, counters))
        if before is None:
            self.seconds = None
            return None
        self.seconds = at - before[0]
        found = rates(before[1], counters, self.seconds)[:_MOST_SHOWN]
        self._learn({(row["userid"], row["queryid"]) for row in found})
        # A statement without text was evicted meanwhile.
        return [
            row | {"login": text[0], "query": text[1]}
            for row in found
            if (text := self._texts.get((row["userid"], row["queryid"])))
        ]

    def _counters(self) -> dict[Key, Counters]:
        return {
            (row["userid"], row["queryid"], row["toplevel"]): Counters(
                row["calls"],
                row["total_exec_time"],
                row["rows"],
                row["shared_blks_hit"],
                row["shared_blks_read"],
            )
            for row in self._rows(_COUNTERS)
        }

    def _learn(self, wanted: set[tuple[int, int]]) -> None:
        if unknown := wanted - self._texts.keys():
            ids = sorted({query_id for _, query_id in unknown})
            for row in self._rows(_TEXTS, wanted=ids, most=_MOST_CHARACTERS):
                self._texts[row["userid"], row["queryid"]] = (row["login"], row["query"])


def rates(
    before: Mapping[Key, Counters], after: Mapping[Key, Counters], seconds: float
) -> list[dict[str, Any]]:
    """Return a row for each statement that was called between two readings, those with the most load first.

    A statement whose count is lower was evicted from pg_stat_statements in between, and has been counted from 0 again.
    """
    found: list[dict[str, Any]] = []
    nothing = Counters(0, 0.0, 0, 0, 0)
    for key, now in after.items():
        then = before.get(key, nothing)
        if now.calls < then.calls:
            then = nothing
        calls = now.calls - then.calls
        if calls == 0 or seconds <= 0:
            continue
        ms, hit, read = now.ms - then.ms, now.hit - then.hit, now.read - then.read
        found.append(
            {
                "userid": key[0],
                "queryid": key[1],
                "load": ms / 1000 / seconds,
                "calls_per_second": calls / seconds,
                "mean_ms": ms / calls,
                "rows_per_second": (now.rows - then.rows) / seconds,
                "buffer_hit_rate": 100 * hit / (hit + read) if hit + read else None,
            }
        )
    found.sort(key=lambda row: float(row["load"]), reverse=True)
    return found
