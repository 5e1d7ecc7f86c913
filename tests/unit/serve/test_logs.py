"""Logs as JSON, one object per line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ops.serve.logs import configure_logging
from tests.promises import promise


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configure the process's logs, and restore pytest's handlers at the end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    text = io.StringIO()
    configure_logging("info", text)
    yield text
    logging.captureWarnings(False)
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).filters.clear()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_object_with_its_fields(stream: io.StringIO) -> None:
    logging.getLogger("x").warning("hello %s", "wörld\nnext", extra={"query": "find_thing", "ms": 1.5})
    (line,) = lines(stream)
    assert line["message"] == "hello wörld\nnext"
    assert (line["level"], line["logger"], line["query"], line["ms"]) == ("warning", "x", "find_thing", 1.5)
    assert line["time"].endswith("+00:00")


def test_control_characters_and_text_directions_are_escaped(stream: io.StringIO) -> None:
    logging.getLogger("x").warning("hello \x1b[2J\x9b\u202e", extra={"name_": "\u2066"})
    assert stream.getvalue().rstrip("\n").isascii()
    assert "\x1b" not in stream.getvalue()
    assert lines(stream)[0]["message"] == "hello \x1b[2J\x9b\u202e"


def test_a_traceback_is_in_its_line(stream: io.StringIO) -> None:
    try:
        raise LookupError("lost")
    except LookupError:
        logging.getLogger("x").exception("it failed")
    (line,) = lines(stream)
    assert line["exception"].startswith("Traceback")
    assert "LookupError: lost" in line["exception"]


def test_values_without_a_json_form_are_text(stream: io.StringIO) -> None:
    logging.getLogger("x").info("hello", extra={"thing": {1, 2}.__class__})
    assert lines(stream)[0]["thing"] == "<class 'set'>"


def test_the_log_level_is_respected(stream: io.StringIO) -> None:
    logging.getLogger("x").debug("quiet")
    assert lines(stream) == []


def log_request(path: str, status: int) -> None:
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", path, "1.1", status
    )


@promise("every log line of the service is JSON, without query strings")
def test_a_request_is_logged_as_fields_without_its_query(stream: io.StringIO) -> None:
    log_request("/things?token=canary", 404)
    (line,) = lines(stream)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/things", 404)
    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/readyz?verbose=1"])
def test_health_checks_are_not_logged(stream: io.StringIO, path: str) -> None:
    log_request(path, 200)
    assert lines(stream) == []


def test_a_warning_that_a_client_can_cause_is_logged_once_in_ten_seconds_with_a_count(
    stream: io.StringIO,
) -> None:
    logger = logging.getLogger("uvicorn.error")

    def refuse(at: float, text: str = "Exceeded concurrency limit.", level: int = logging.WARNING) -> None:
        record = logger.makeRecord(logger.name, level, "", 0, text, (), None)
        record.created = at
        logger.handle(record)

    for second in range(25):
        refuse(1e9 + second)
    refuse(1e9 + 1, "Invalid HTTP request received.")
    refuse(1e9 + 2, "ASGI callable returned without completing response.", logging.ERROR)
    refuse(1e9 + 2, "ASGI callable returned without completing response.", logging.ERROR)
    assert [line.get("repeated") for line in lines(stream)] == [None, 9, 9, None, None, None]
