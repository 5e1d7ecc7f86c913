"""The applications' hit rates in the report: from Prometheus if there is one, else from the access service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ops.errors import OpsError
from ops.report.cache_reads import CacheReads, EntityReads, cache_reads
from ops.report.charts import cache_hit_rates
from ops.report.document import document
from ops.report.page import render
from ops.report.sampling import Sample, Sampling
from ops.servers.access_metrics import MetricKey, access_metrics, parse_metrics
from ops.servers.errors import ServerUnreachable
from tests.cases import in_case
from tests.promises import promise
from tests.web_server import QuietHandler, served

# Recorded from an access service, without the other metrics. The near cache's misses are the reads that Redis got.
ACCESS = """\
# HELP groundwork_cache_hits_total Reads answered by a layer. `negative`: by a cached absence.
# TYPE groundwork_cache_hits_total counter
groundwork_cache_hits_total{{entity="user",kind="value",layer="redis"}} {redis}
groundwork_cache_hits_total{{entity="user",kind="negative",layer="redis"}} 5.0
groundwork_cache_hits_total{{entity="user",kind="value",layer="near"}} {near}
groundwork_cache_hits_created{{entity="user",kind="value",layer="near"}} 1.796040339e+09
# HELP groundwork_cache_misses_total Reads that a layer could not answer.
# TYPE groundwork_cache_misses_total counter
groundwork_cache_misses_total{{entity="user",layer="redis"}} {missed}
groundwork_cache_misses_total{{entity="user",layer="near"}} 214.0
groundwork_cache_misses_total{{entity="organization",layer="redis"}} 0.0
"""
# Answers of Prometheus, recorded from a stack with an application in job `web`.
HITS = {
    ("web", "user", "near"): "600.4",
    ("web", "user", "redis"): "200.4",
    ("web", "user_feed", "redis"): "90",
    ("access", "user", "redis"): "0",
}
MISSES = {
    ("web", "user", "near"): "400",
    ("web", "user", "redis"): "199",
    ("web", "user_feed", "redis"): "10",
    ("access", "user", "redis"): "0",
}
FROM_PROMETHEUS = (
    EntityReads("web", "user", 600, 200, 199),
    EntityReads("web", "user_feed", 0, 90, 10),
)


def access(near: float, redis: float, missed: float) -> dict[MetricKey, float]:
    return parse_metrics(ACCESS.format(near=near, redis=redis, missed=missed))


def vector(counts: dict[tuple[str, str, str], str]) -> dict[str, Any]:
    result = [
        {"metric": {"entity": entity, "job": job, "layer": layer}, "value": [1796040400.1, count]}
        for (job, entity, layer), count in counts.items()
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@contextmanager
def prometheus(
    answer: Callable[[str], object] | None = None, status: int = 200
) -> Iterator[tuple[str, list[str]]]:
    """Serve recorded answers. Yields the address, and the expressions that were queried."""
    asked: list[str] = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            (expression,) = parse_qs(urlsplit(self.path).query)["query"]
            asked.append(expression)
            recorded = vector(HITS if "hits" in expression else MISSES)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer(expression) if answer else recorded).encode())

    with served(Handler) as port:
        yield f"http://127.0.0.1:{port}", asked


class Asking:
    """Calls a server as the report's sampler does, and keeps the error."""

    def __init__(self) -> None:
        self.unreached: dict[str, str] = {}

    def __call__(self, server: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except OpsError as error:
            self.unreached[server] = str(error)
            return None


def page(reads: CacheReads) -> str:
    samples = [Sample(100.0 + index, None, None, None, None) for index in range(2)]
    return render(Sampling("dev", 1.0, samples, cache_reads=reads))


def section(text: str) -> str:
    found = re.search(r'<section id="cache">.*?</section>', text, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]*>", " ", found[0])


@promise(
    "the report shows which share of the applications' reads the near cache, Redis and the database answered"
)
def test_prometheus_is_asked_for_the_reads_of_all_jobs() -> None:
    asking = Asking()
    with prometheus() as (url, asked):
        found = cache_reads(url, [access(0, 0, 0), access(9, 9, 9)], 300.4, asking)
    assert (found.is_known, found.by_entity) == (True, FROM_PROMETHEUS)
    assert (
        found.source == "In the last 300 s, in all processes that Prometheus scrapes. Jobs with reads: web."
    )
    assert sorted(asked) == [
        f"sum by (job, entity, layer) (increase(groundwork_cache_{kind}_total[300s]))"
        for kind in ("hits", "misses")
    ]
    assert asking.unreached == {}


def test_a_short_sampling_has_a_minute_of_prometheus() -> None:
    """Prometheus scrapes every 15 s, so it has no increase within 10 s."""
    with prometheus() as (url, asked):
        assert "the last 60 s" in cache_reads(url, [], 10, Asking()).source
    assert all("[60s]" in expression for expression in asked)


@promise(
    "the report shows which share of the applications' reads the near cache, Redis and the database answered"
)
def test_without_monitoring_the_reads_are_the_access_services_own() -> None:
    samples = [None, access(100, 50, 20), None, access(110, 51, 21), access(160, 80, 30), None]
    found = cache_reads(None, samples, 10, Asking())
    assert found.by_entity == (EntityReads("access", "user", 60, 30, 10),)
    assert found.by_entity[0].hit_rate == 90
    assert found.source.startswith(
        "This stack has no monitoring, so these are only the access service's own reads"
    )


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>", b"groundwork_cache_hits_total{", b"\xff"])
def test_the_page_of_another_program_at_the_access_services_address_is_an_unreachable_service(
    page: bytes,
) -> None:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

    with served(Handler) as port, pytest.raises(ServerUnreachable, match=r"/metrics is not a page "):
        access_metrics(f"http://127.0.0.1:{port}")


def test_a_restarted_access_service_counts_from_zero() -> None:
    found = cache_reads(None, [access(1000, 500, 200), access(7, 3, 0)], 10, Asking())
    # The counters of absences did not decrease.
    assert found.by_entity == (EntityReads("access", "user", 7, 3, 0),)


def test_without_an_answer_of_prometheus_the_access_service_is_used() -> None:
    cases: list[tuple[Callable[[str], object] | None, int, str]] = [
        (None, 503, "cannot reach Prometheus at http://127.0.0.1:"),
        (lambda _: {"status": "error", "error": "bad"}, 200, "gave an unexpected answer"),
        (lambda _: ["no object"], 200, "gave an unexpected answer"),
        (
            lambda _: {"data": {"result": [{"metric": {}, "value": [0, "1"]}]}},
            200,
            "gave an unexpected answer",
        ),
    ]
    for answer, status, reason in cases:
        with in_case(answer, status, reason):
            asking = Asking()
            with prometheus(answer, status) as (url, _):
                found = cache_reads(url, [access(0, 0, 0), access(3, 0, 1)], 10, asking)
            assert found.by_entity == (EntityReads("access", "user", 3, 0, 1),)
            assert found.source.startswith("Prometheus did not answer, so")
            assert reason in asking.unreached["Prometheus"]


def test_without_any_metrics_the_page_says_why() -> None:
    for samples in ([], [None, None], [None, access(1, 1, 1)]):
        with in_case(samples):
            found = cache_reads(None, samples, 10, Asking())
            assert not found.is_known
            before, _, _ = page(found).partition('<details class="empty">')
            assert (
                "Not known. This stack has no monitoring, and there are no two samples of an access service."
                in section(before)
            )


def test_the_page_and_its_data_have_a_hit_rate_for_each_entity() -> None:
    reads = CacheReads("In the last 60 s.", True, FROM_PROMETHEUS)
    text = page(reads)
    rows = section(text)
    assert re.search(r"web: user\s+60\.1\s+20\.0\s+80\.1\s", rows)
    assert re.search(r"web: user_feed\s+0\s+90\s+90\s", rows)
    assert re.search(r"all\s+54\.6\s+26\.4\s+81\.0\s", rows)
    assert "81.0 %" in text.partition("</ul>")[0]
    assert text.index('id="cache"') < text.index('id="connections"')
    data = document(Sampling("dev", 1.0, [Sample(0.0, None, None, None, None)], cache_reads=reads), None)
    assert data["cache"]["hit_rates"]["web: user_feed"] == {"near cache": 0, "Redis": 90, "both": 90}
    assert data["parts"]["cache"]["values"]["web: user"] == {
        "near cache": 600,
        "Redis": 200,
        "database": 199,
    }


def test_a_low_hit_rate_is_unusual_from_a_thousand_reads_on() -> None:
    def reasons(*counts: float) -> bool:
        return 'href="#cache"' in page(CacheReads("", True, (EntityReads("web", "user", *counts),)))

    assert reasons(100, 300, 600)
    assert not reasons(300, 300, 400)
    assert not reasons(10, 30, 60)


def test_without_reads_there_is_no_hit_rate_and_the_section_is_folded() -> None:
    reads = CacheReads("In the last 60 s. Jobs with reads: none.", True, ())
    assert cache_hit_rates(Sampling("dev", 1.0, cache_reads=reads)) == {}
    _, _, folded = page(reads).partition('<details class="empty">')
    assert "Jobs with reads: none" in section(folded)


def test_a_foreign_job_or_entity_is_text_and_not_markup() -> None:
    text = page(CacheReads("", True, (EntityReads("<script>", "</section><img src=x>", 1, 2, 3),)))
    assert "<script>" not in text
    assert "<img" not in text
