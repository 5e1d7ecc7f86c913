"""Log every record of the process as one JSON object per line on stdout."""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import TextIO

# Attributes that logging itself sets on a record. Others come from `extra` and become fields.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
REPEAT_SECONDS = 10.0


class JsonFormatter(logging.Formatter):
    """Format a record as JSON: time (UTC), level, logger, message, the fields of `extra`, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _OWN and key not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class AccessFilter(logging.Filter):
    """Turn uvicorn's positional arguments into fields, and drop requests that come every few seconds."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not (isinstance(record.args, tuple) and len(record.args) == 5):
            return True
        client, method, target, _, status = record.args
        # Without the query string, which may contain anything.
        path = str(target).partition("?")[0]
        if path in QUIET_PATHS:
            return False
        record.msg, record.args = "request", ()
        vars(record).update(client=client, method=method, path=path, status=status)
        return True


class RepeatFilter(logging.Filter):
    """Pass a message at most once in REPEAT_SECONDS. Its next line has the number of those left out as `repeated`.

    For the messages that any client can cause: uvicorn logs each request that it refuses.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        # The text before it is formatted, so that a client cannot fill the dict.
        logged_at, repeated = self._seen.get(record.msg, (-math.inf, 0))
        is_due = record.created - logged_at >= REPEAT_SECONDS
        self._seen[record.msg] = (record.created, 0) if is_due else (logged_at, repeated + 1)
        if is_due and repeated:
            record.repeated = repeated
        return is_due


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Log everything, including uvicorn's records, to stdout as JSON."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # The pool logs every checkout and return of a connection, which the metrics cover.
    logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").addFilter(AccessFilter())
    logging.getLogger("uvicorn.error").addFilter(RepeatFilter())
