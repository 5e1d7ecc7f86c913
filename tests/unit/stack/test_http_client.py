"""Requests to the stack's own services: without a proxy, and with an error for an answer that is not complete HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infra import outputs
from ops.cache.stats import _reads
from ops.chaos.target import ChaosTarget
from ops.doctor.access import readiness
from ops.doctor.examination import Examination
from ops.report.cache_reads import from_prometheus
from ops.servers.access_metrics import access_metrics
from ops.servers.errors import ServerUnreachable
from tests.unit.report.test_cache_reads import ACCESS, vector
from tests.web_server import QuietHandler, served

READY = json.dumps({"checks": {"outbox": {"ok": True, "reason": None}}}).encode()
METRICS = ACCESS.format(near=1, redis=1, missed=1).encode()
READS = json.dumps(vector({("web", "user", "near"): "6"})).encode()


def doctor(url: str) -> Any:
    return readiness(cast(Examination, SimpleNamespace(stack=SimpleNamespace(access_url=url)))).text


def chaos(url: str) -> Any:
    return ChaosTarget(cast(Any, None), "dev", {}, {outputs.ACCESS_URL: url})._access_problems()


READERS: list[tuple[Callable[[str], Any], bytes]] = [
    (doctor, READY),
    (chaos, READY),
    (access_metrics, METRICS),
    (lambda url: _reads(url, str), METRICS),
    (lambda url: from_prometheus(url, 60), READS),
]


@contextmanager
def answering(whole: bytes) -> Iterator[str]:
    """Serve an answer with status line and headers, and end the connection. Yields the address."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.wfile.write(whole)

    with served(Handler) as port:
        yield f"http://localhost:{port}"


def test_no_reader_uses_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        # Bound, and does not listen.
        nobody.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        found = []
        for read, body in READERS:
            with answering(b"HTTP/1.0 200 OK\r\n\r\n" + body) as url:
                found.append(read(url))
    ready, problems, metrics, hits, reads = found
    assert ready.endswith(" is ready")
    assert problems == []
    assert metrics
    assert hits["user/near"]["hits"] == 1
    assert [each.near for each in reads] == [6]


@pytest.mark.parametrize(
    "whole",
    [b"HTTP/1.0 200 OK\r\nContent-Length: 90000\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n", b""],
    ids=["cut off", "not HTTP", "closed"],
)
def test_an_incomplete_answer_is_an_error_of_the_server(whole: bytes) -> None:
    with answering(whole) as url:
        for read in (doctor, access_metrics, lambda url: from_prometheus(url, 60)):
            with pytest.raises(ServerUnreachable, match=r"cannot reach .*http://localhost:\d+"):
                read(url)
        (problem,) = chaos(url)
        assert problem.startswith("access: the answer is cut off or not HTTP: ")
        said: list[str] = []
        assert _reads(url, said.append) is None
        assert "the answer is cut off or not HTTP: " in said[0]


def test_an_answer_with_an_error_status_is_read() -> None:
    checks = b'{"checks": {"redis": {"ok": false, "reason": "down"}}}'
    with answering(b"HTTP/1.0 503 Service Unavailable\r\n\r\n" + checks) as url:
        assert doctor(url) == "not ready: redis: down"
        assert chaos(url) == ["access: not ready (503)"]
        with pytest.raises(ServerUnreachable, match="HTTP status 503"):
            access_metrics(url)


@pytest.mark.parametrize("body", [b"\xff", b'groundwork_cache_hits_total{entity="user"} many'])
def test_an_answer_that_is_not_a_page_of_metrics_is_an_error_of_the_server(body: bytes) -> None:
    with (
        answering(b"HTTP/1.0 200 OK\r\n\r\n" + body) as url,
        pytest.raises(ServerUnreachable, match="/metrics is not a page of metrics: "),
    ):
        access_metrics(url)
