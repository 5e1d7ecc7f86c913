"""What the readiness check says about replicas, and what it logs. A live server is in tests/integration/serve."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from unittest import mock

from db.rows import Replication
from infra.spec import alarms
from ops.serve.logs import JsonFormatter
from ops.serve.readiness import Degraded, Readiness, ReadinessProbe, count_hosts, replication_problem
from tests.cases import in_case


def test_missing_replicas_degrade_and_waiting_writes_are_a_problem() -> None:
    cases: list[tuple[int, bool, object]] = [
        (2, False, None),
        (1, False, Degraded("1 of 2 replicas are connected to the primary")),
        (0, True, "no replica is synchronous, so every write waits; reads work"),
        # Replicas that are not synchronous do not help.
        (2, True, "no replica is synchronous, so every write waits; reads work"),
    ]
    for connected, writes_wait, expected in cases:
        with in_case(connected, writes_wait, expected):
            assert replication_problem(Replication(connected, writes_wait), expected=2) == expected


def test_replicas_are_expected_for_each_further_host_of_the_url() -> None:
    cases: list[tuple[str, int]] = [
        ("postgresql://app_a:x@localhost:1/groundwork", 1),
        ("postgresql://app_a:x@a:1,b:2,c:3/groundwork?target_session_attrs=primary", 3),
        ("host=a,b dbname=groundwork", 2),
        ("postgresql:///groundwork", 1),
        # The check of Postgres reports it.
        ("postgresql://app_a:x@[broken/groundwork", 1),
    ]
    for url, hosts in cases:
        with in_case(url, hosts):
            assert count_hosts(url) == hosts


def working_data() -> mock.Mock:
    """Return a data access whose Postgres and Redis are fine, without one of its replicas."""
    data = mock.Mock()
    data.pool.settings.url.read.return_value = "host=a"
    data.pool.fetch_one = mock.AsyncMock(return_value=None)
    data.pool.fetch_all = mock.AsyncMock(return_value=[])
    data.cache.ping = mock.AsyncMock()
    data.cache.replicas = mock.AsyncMock(return_value=(1, 2))
    return data


def logged_by_a_check(outbox: str | None) -> list[str]:
    """Return the lines that a check logs. Its Postgres and Redis are fine, and the outbox has this problem."""
    logger, text = logging.getLogger("groundwork.serve.readiness"), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    probe = ReadinessProbe(working_data(), mock.Mock(**{"problem.return_value": outbox}))
    logger.addHandler(handler)
    try:
        with mock.patch("ops.serve.readiness.schema_problem", return_value=None):
            asyncio.run(probe.check())
    finally:
        logger.removeHandler(handler)
    return text.getvalue().splitlines()


def test_failed_check_is_logged_and_counted_by_the_alarm_on_aws() -> None:
    reason = "not emptied for 12 s: the sweep hangs"
    (line,) = logged_by_a_check(reason)
    found = json.loads(line)
    assert (found["level"], found["failed"]) == ("warning", {"outbox": reason})
    (lines,) = [
        each.lines
        for each in alarms.access_alarms(cluster="c", service="s", count=1, namespace="n")
        if each.lines is not None
    ]
    # The form `{ $.FIELD = "VALUE" }` compares a field of a JSON line. In VALUE, `*` would match anything.
    compared = re.fullmatch(r'\{ \$\.(\w+) = "([^"*]+)" \}', lines.pattern)
    assert compared is not None
    assert found[compared[1]] == compared[2]


def test_check_of_a_ready_service_logs_nothing() -> None:
    """Not even if a replica is missing: the service is ready then."""
    assert logged_by_a_check(None) == []


def test_concurrent_requests_share_one_check_and_a_cancelled_one_does_not_end_it() -> None:
    data, go = working_data(), asyncio.Event()
    data.cache.ping.side_effect = go.wait
    probe = ReadinessProbe(data, mock.Mock(**{"problem.return_value": None}))

    async def flood() -> None:
        requests = [asyncio.create_task(probe.check()) for _ in range(100)]
        while not data.cache.ping.called:
            await asyncio.sleep(0)
        requests[0].cancel()
        go.set()
        answers = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(each) for each in answers] == [asyncio.CancelledError] + 99 * [Readiness]
        assert data.cache.ping.await_count == 1
        await probe.check()
        assert data.cache.ping.await_count == 2

    with mock.patch("ops.serve.readiness.schema_problem", return_value=None):
        asyncio.run(flood())
