"""The log of failed attempts to connect, in place of psycopg_pool's record for each attempt."""

from __future__ import annotations

import logging
from time import monotonic

_logger = logging.getLogger("groundwork.db.pool")
# How often a reason that persists is logged again.
_REPEAT_SECONDS = 60.0
# What psycopg_pool logs for each attempt, and for each connection that it gives up for now.
REPLACED = ("error connecting in %r: %s", "reconnection attempt in pool %r failed after %s sec")
_pools: set[str] = set()


class OutageLog:
    """Logs why a pool cannot connect: each reason once a minute, with the number of attempts, and then the end.

    The end is a warning too, so that whoever reads of the outage also reads that it is over.
    """

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._failures = 0
        self._began_at = 0.0
        self._is_logged = False
        # When each reason was logged. Kept after the end, because every second attempt may fail.
        self._logged_at: dict[str, float] = {}
        _pools.add(pool)

    def failed(self, refusal: object, reason: str) -> None:
        now = monotonic()
        if self._failures == 0:
            self._began_at = now
        self._failures += 1
        if now - self._logged_at.get(reason, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return
        self._logged_at = {
            each: at for each, at in [*self._logged_at.items()] if now - at < _REPEAT_SECONDS
        } | {reason: now}
        self._is_logged = True
        _logger.warning("cannot connect pool %s to Postgres%s: %s", self._pool, self._so_far(now), refusal)

    def succeeded(self) -> None:
        if self._is_logged:
            _logger.warning("pool %s connects to Postgres again%s", self._pool, self._so_far(monotonic()))
        self._failures, self._is_logged = 0, False

    def _so_far(self, now: float) -> str:
        if self._failures < 2:
            return ""
        return f" ({self._failures} failed attempts in {now - self._began_at:.0f} s)"


def demote_replaced(record: logging.LogRecord) -> None:
    """Make psycopg_pool's record of a failed attempt of one of our pools a record of level DEBUG."""
    if record.msg in REPLACED and isinstance(record.args, tuple) and record.args[0] in _pools:
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
