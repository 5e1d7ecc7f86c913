"""Logs as one JSON object a line on stdout, for every logger of the process."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

# What logging itself puts on a record; anything else came in by `extra` and is a field of the line.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


class JsonFormatter(logging.Formatter):
    """time (UTC), level, logger, message, the fields of `extra`, and the traceback where there is one."""

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
        return json.dumps(line, default=str, ensure_ascii=False)


class AccessFilter(logging.Filter):
    """Turns uvicorn's positional arguments into fields, and drops what is asked every few seconds."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not (isinstance(record.args, tuple) and len(record.args) == 5):
            return True
        client, method, target, _, status = record.args
        # Without the query, which may hold anything.
        path = str(target).partition("?")[0]
        if path in QUIET_PATHS:
            return False
        record.msg, record.args = "request", ()
        vars(record).update(client=client, method=method, path=path, status=status)
        return True


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send everything to stdout as JSON, uvicorn's records included."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # One line for each connection taken and given back says nothing that the metrics do not.
    logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").addFilter(AccessFilter())
