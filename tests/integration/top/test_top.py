"""`groundwork top` with real servers: a blocked session, a hidden secret, and the JSON document."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from ops import cli
from ops.servers.monitored_stack import MonitoredStack
from ops.top.collector import Collector
from ops.top.snapshot import Snapshot
from ops.top.summary import lock_tree
from tests.conftest import Database
from tests.containers import wait_until
from tests.promises import promise
from tests.web_server import QuietHandler, served

SECRET = "hunter2"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run groundwork top --once with the test's servers, and return exit code, stdout and stderr."""

    def run(stack: MonitoredStack, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(MonitoredStack, "of", lambda name: stack)
        with pytest.raises(SystemExit) as exit_:
            cli.main(["top", "--once", "--interval", "0.5", *arguments])
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def blocked(database: Database) -> Iterator[tuple[int, int]]:
    """Yield the processes of a session that holds a lock and of one that waits for it. Both have a secret literal."""
    with ExitStack() as stack:
        holder = stack.enter_context(psycopg.connect(database.url("app"), application_name="holder"))
        holder.execute(f"LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE; SELECT '{SECRET}'")
        waiter = stack.enter_context(psycopg.connect(database.url("app"), autocommit=True))
        waiter.execute("SET lock_timeout = 0")
        waits = threading.Thread(
            target=waiter.execute, args=[f"DELETE FROM users WHERE username = '{SECRET}' /* {SECRET} */"]
        )
        waits.start()
        waiting = f"SELECT wait_event_type FROM pg_stat_activity WHERE pid = {waiter.info.backend_pid}"
        wait_until(lambda: database.psql(waiting).strip() == "Lock", 60)
        try:
            yield holder.info.backend_pid, waiter.info.backend_pid
        finally:
            holder.rollback()
            waits.join()


def read_twice(stack: MonitoredStack) -> Snapshot:
    collector = Collector(stack, 0.5, wants_statements=True)
    collector.read_twice()
    return collector.snapshot()


@promise("top shows which session blocks which")
def test_a_blocked_session_is_shown_below_its_blocker(
    stack: MonitoredStack, blocked: tuple[int, int]
) -> None:
    holder, waiter = blocked
    found = read_twice(stack).postgres
    assert found.counts is not None
    assert found.counts.waiting_for_lock >= 1
    tree = [(depth, pid) for depth, pid, _ in lock_tree(found.sessions) if pid in blocked]
    assert tree == [(0, holder), (1, waiter)]
    session = next(each for each in found.sessions if each.pid == waiter)
    assert (session.lock, session.blocked_by) == ("groundwork.users", (holder,))
    assert session.statement == "DELETE FROM users WHERE username = ?"


@promise("top shows no literal and no comment of a statement")
def test_the_document_has_no_literal_of_a_statement(
    stack: MonitoredStack, blocked: tuple[int, int], command: Run
) -> None:
    code, out, err = command(stack, "--json")
    document: dict[str, Any] = json.loads(out)
    assert (code, err) == (0, "")
    assert SECRET not in out
    sessions = {each["pid"]: each for each in document["postgres"]["sessions"]}
    assert sessions[blocked[1]]["blockedBy"] == [blocked[0]]
    assert document["postgres"]["isUp"]
    assert document["postgres"]["commitsPerSecond"] >= 0
    assert document["redis"]["commandsPerSecond"] > 0
    assert document["access"] is None


def test_a_statement_between_two_readings_has_a_rate(stack: MonitoredStack, database: Database) -> None:
    ended = threading.Event()

    def load() -> None:
        with psycopg.connect(database.url("app"), autocommit=True) as app:
            while not ended.wait(0.02):
                app.execute("SELECT count(*) FROM organizations WHERE name = 'x'")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        statements = read_twice(stack).postgres.statements
    finally:
        ended.set()
        thread.join()
    assert statements is not None
    found = next(each for each in statements if "FROM organizations" in each.statement)
    assert found.login == "app_a"
    assert 0 < found.calls_per_second < 1000


METRICS = """\
# TYPE groundwork_cache_hits_total counter
groundwork_cache_hits_total{{entity="user",kind="value",layer="near"}} {count}
groundwork_cache_hits_total{{entity="user",kind="value",layer="redis"}} {count}
groundwork_cache_misses_total{{entity="user",layer="redis"}} {count}
# TYPE groundwork_db_pool_size gauge
groundwork_db_pool_size{{pool="app"}} 4.0
groundwork_db_pool_available{{pool="app"}} 3.0
groundwork_db_pool_max{{pool="app"}} 8.0
# TYPE groundwork_outbox_depth gauge
groundwork_outbox_depth 6.0
"""
QUERIED = [{"metric": {"job": "web", "entity": "user", "layer": "near"}, "value": [0, "300"]}]


@contextmanager
def access_and_prometheus() -> Iterator[str]:
    """Serve the metrics of an access service, whose counts rise by 10, and the answers of a Prometheus."""
    counts = itertools.count(0, 10)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            answer = {"data": {"result": QUERIED if "cache_hits" in self.path else []}}
            is_metrics = self.path == "/metrics"
            text = METRICS.format(count=next(counts)) if is_metrics else json.dumps(answer)
            self.wfile.write(text.encode())

    with served(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("has_prometheus", [False, True])
def test_pool_outbox_and_the_layers_of_reads_are_shown(stack: MonitoredStack, has_prometheus: bool) -> None:
    with access_and_prometheus() as url:
        prometheus = url if has_prometheus else None
        found = read_twice(replace(stack, access_url=url, prometheus_url=prometheus))
    assert found.access is not None
    assert found.access.outbox is not None
    assert [(pool.size, pool.idle, pool.max) for pool in found.access.pools] == [(4, 3, 8)]
    assert found.access.outbox.rows == 6
    reads = found.cache.all
    assert reads is not None
    # Of the access service: 10 reads by each layer between the two readings. Of Prometheus: all reads of all jobs.
    assert reads.count == (300 if has_prometheus else 30)
    assert reads.near == pytest.approx(100 if has_prometheus else 100 / 3)
    assert ("Jobs with reads: web" in found.cache.source) is has_prometheus


@promise("top shows a server that does not answer as down, and the others as before")
@pytest.mark.parametrize("field", ["redis_url", "database_url"])
def test_a_server_that_is_down_is_shown_beside_the_others(
    stack: MonitoredStack, command: Run, field: str
) -> None:
    scheme = "rediss://monitor:x@localhost:1/0" if field == "redis_url" else "postgresql://m:x@localhost:1/x"
    code, out, err = command(replace(stack, **{field: scheme}))  # type: ignore[arg-type]
    assert (code, err) == (6, "")
    down, up = ("Redis", "Postgres") if field == "redis_url" else ("Postgres", "Redis")
    lines = {line.split()[0]: line for line in out.splitlines()[1:6] if line.strip()}
    assert "DOWN  cannot reach" in lines[down]
    assert "primary" in lines[up]
