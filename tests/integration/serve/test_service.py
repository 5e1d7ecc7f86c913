"""The access service from outside: readiness, bounded answers during faults of the servers, and a clean stop."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import redis

from db.errors import Unavailable
from db.migrator import apply_pending, read_source
from db.models import NewUser
from ops.serve.server import REQUEST_SECONDS, WAITING_LIMIT
from tests import containers
from tests.conftest import Database, cloned_database
from tests.containers import Server, frozen, wait_until
from tests.faults.slow_proxy import SlowProxy, slow_proxy
from tests.integration.data_access import SHIPPED_TIMEOUT, cache_settings, data_access, database_settings
from tests.integration.serve.service import Service, running_service
from tests.promises import promise
from tests.scale import limit

# The promise is 2 s for an answer and 3 s for a stop.
READYZ_SECONDS = limit(2.0)
STOP_SECONDS = limit(3.0)
Start = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def start(database: Database, redis_server: Server, namespace: str) -> Start:
    """Start the service with the test's database and namespace. Keyword arguments change its environment.

    None unsets a variable.
    """

    def start_one(*options: str, **environment: str | None) -> AbstractContextManager[Service]:
        usual = {
            "DATABASE_URL": database.url("app"),
            "REDIS_URL": redis_server.redis_url("app"),
            "GROUNDWORK_CACHE_NAMESPACE": namespace,
        }
        given = {name: value for name, value in (usual | environment).items() if value is not None}
        return running_service(*options, **given)

    return start_one


@pytest.fixture(scope="module")
def sick_servers(docker_engine: None) -> Iterator[dict[str, Server]]:
    """Servers for this module only, because the tests freeze them."""
    with containers.postgres_server() as postgres, containers.redis_server() as redis:
        apply_pending(postgres.database_url("migrator"), read_source())
        yield {"postgres": postgres, "redis": redis}


@pytest.fixture(scope="module")
def sick_service(sick_servers: dict[str, Server]) -> Iterator[Service]:
    """A service whose servers the tests freeze."""
    with running_service(
        DATABASE_URL=sick_servers["postgres"].database_url("app_a"),
        REDIS_URL=sick_servers["redis"].redis_url("app"),
        GROUNDWORK_CACHE_NAMESPACE="sick",
    ) as service:
        yield service


@pytest.fixture(scope="module")
def served_database(postgres_server: Server, migrated_template: str) -> Iterator[Database]:
    """The database of `served`. When the service starts, there is a record to warm, and a partition is missing."""
    with cloned_database(postgres_server, migrated_template) as database:
        _make_hot(database)
        database.psql(f"DROP TABLE IF EXISTS groundwork.{_last_partition()}")
        yield database


@pytest.fixture(scope="module")
def served(served_database: Database, redis_server: Server) -> Iterator[Service]:
    """A ready service with healthy servers, for tests that leave it as it is."""
    with running_service(
        DATABASE_URL=served_database.url("app"),
        REDIS_URL=redis_server.redis_url("app"),
        GROUNDWORK_CACHE_NAMESPACE="served",
    ) as service:
        wait_until(service.is_ready, 180)
        yield service


@promise("the service becomes ready once the servers are available, without a restart")
def test_it_becomes_ready_and_names_every_check(served: Service) -> None:
    answer = served.readiness()
    assert answer["ready"] is True
    assert set(answer["checks"]) == {"postgres", "schema", "redis", "outbox"}
    for check in answer["checks"].values():
        assert check["ok"] is True
        assert check["reason"] is None
        assert check["latency_ms"] < READYZ_SECONDS * 1000


@contextmanager
def slow_clients(port: int, count: int, sent: bytes, at_once: int = 32) -> Iterator[list[socket.socket]]:
    """Open connections that send these bytes and nothing more, and do not read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 1000)), hard))

    def connect(_: int) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port), timeout=30)
        # The service may have closed it already.
        with suppress(OSError):
            client.sendall(sent)
        return client

    # In threads, because a client that finds the queue of new connections full tries again after a second.
    with ExitStack() as stack, ThreadPoolExecutor(at_once) as threads:
        yield [stack.enter_context(client) for client in threads.map(connect, range(count))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@promise("clients that send half a request cannot keep others from being answered")
def test_two_thousand_slow_clients_do_not_keep_it_from_answering(served: Service) -> None:
    for sent in (b"", b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with slow_clients(served.port, 2000, sent) as clients:
            started = time.monotonic()
            assert served.get("/readyz")[0] == 200, sent
            assert time.monotonic() - started < limit(1), sent
            assert len(list(Path(f"/proc/{served.process.pid}/fd").iterdir())) < WAITING_LIMIT + 100, sent
            # The others are closed in time, too.
            clients[-1].settimeout(limit(REQUEST_SECONDS))
            assert clients[-1].recv(1) == b"", sent


@promise("clients that do not read their answers cannot keep others from being answered")
def test_clients_that_pipeline_requests_and_read_nothing_do_not_keep_it_from_answering(
    served: Service,
) -> None:
    # More answers than fit into the buffers of both sides.
    sent = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 400
    # One after the other: each request has arrived before the next client could displace this one.
    with slow_clients(served.port, 600, sent, at_once=1):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert served.get(path)[0] == 200, path


@promise("`/healthz` answers 200 whatever the servers do")
@promise("the service becomes ready once the servers are available, without a restart")
@pytest.mark.parametrize(
    ("variable", "url", "broken"),
    [
        ("DATABASE_URL", "postgresql://app_a:canary@localhost:1/groundwork", {"postgres", "schema"}),
        ("REDIS_URL", "redis://app:canary@localhost:1/0", {"redis"}),
    ],
)
def test_it_starts_without_a_server_and_says_which_is_missing(
    start: Start, variable: str, url: str, broken: set[str]
) -> None:
    with start(**{variable: url}) as service:
        started = time.monotonic()
        status, body = service.get("/readyz")
        assert time.monotonic() - started < READYZ_SECONDS
        assert status == 503
        assert service.get("/healthz") == (200, '{"alive":true}')
        # The other server's check may time out while the service connects.
        wait_until(lambda: set(_problems(service)) == broken, 60)
        problems = _problems(service)
        assert all(problems.values())
        assert service.stop()[0] == 0
        assert "canary" not in f"{body}{problems}{''.join(service.raw)}"


def _problems(service: Service) -> dict[str, str | None]:
    """Return the reason of each check that fails."""
    checks = service.readiness()["checks"]
    return {name: check["reason"] for name, check in checks.items() if not check["ok"]}


@promise(
    "while every write waits for a replica, the service is not ready; a missing replica alone is only reported"
)
def test_waiting_writes_make_it_not_ready_and_it_recovers(
    sick_servers: dict[str, Server], sick_service: Service, namespace: str
) -> None:
    postgres = sick_servers["postgres"]
    single, redis_url = postgres.database_url("app_a"), sick_servers["redis"].redis_url("app")
    url = single.replace(f"localhost:{postgres.port}", ",".join([f"localhost:{postgres.port}"] * 3))

    def checks(service: Service) -> dict[str, Any]:
        return dict(service.readiness()["checks"])

    with running_service(
        DATABASE_URL=url, REDIS_URL=redis_url, GROUNDWORK_CACHE_NAMESPACE=namespace
    ) as several:
        # Nothing waits for a replica, because none is configured.
        wait_until(several.is_ready, 180)
        missing = {"ok": True, "reason": "0 of 2 replicas are connected to the primary"}
        assert checks(several)["replicas"].items() >= missing.items()
        postgres.psql("ALTER SYSTEM SET synchronous_standby_names = '\"postgres-2\"'")
        try:
            postgres.psql("SELECT pg_reload_conf()")
            wait_until(lambda: not several.is_ready(), 180)
            assert _problems(several) == {
                "replicas": "no replica is synchronous, so every write waits; reads work"
            }
            # The control: without a list of servers there is no such check.
            wait_until(sick_service.is_ready, 180)
            assert "replicas" not in checks(sick_service)
        finally:
            postgres.psql("ALTER SYSTEM RESET synchronous_standby_names")
            postgres.psql("SELECT pg_reload_conf()")
        wait_until(several.is_ready, 180)


@promise("a schema that is behind or in doubt makes the service not ready")
def test_an_outdated_schema_is_named_and_becomes_ready_without_a_restart(
    empty_database: Database, redis_server: Server, namespace: str
) -> None:
    environment = {
        "DATABASE_URL": empty_database.url("app"),
        "REDIS_URL": redis_server.redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    with running_service(**environment) as service:
        assert service.readiness()["checks"]["schema"]["ok"] is False
        migrations = read_source()
        apply_pending(empty_database.url("migrator"), migrations, target=migrations[-2].version)
        wait_until(
            lambda: migrations[-1].up.path.name in str(service.readiness()["checks"]["schema"]["reason"])
        )
        apply_pending(empty_database.url("migrator"), migrations)
        wait_until(service.is_ready, 180)


@promise("a schema that is behind or in doubt makes the service not ready")
def test_a_schema_in_doubt_is_not_ready(served: Service, served_database: Database) -> None:
    for column, value, reason in (
        ("success", "false", "did not finish"),
        ("checksum", "'\\x00'", "was applied with content other"),
    ):
        ledger = "groundwork._sqlx_migrations"
        served_database.psql(
            f"CREATE TABLE public.ledger AS TABLE {ledger}; UPDATE {ledger} SET {column} = {value} WHERE version = 1"
        )
        schema = served.readiness()["checks"]["schema"]
        served_database.psql(
            f"UPDATE {ledger} AS l SET {column} = p.{column} FROM public.ledger AS p WHERE p.version = l.version;"
            "DROP TABLE public.ledger"
        )
        assert schema["ok"] is False, column
        assert reason in schema["reason"]
    assert served.is_ready()


def test_a_newer_schema_is_still_ready(served: Service, served_database: Database) -> None:
    served_database.psql(
        "INSERT INTO groundwork._sqlx_migrations VALUES (9999, 'later', now(), true, '\\x00', 1)"
    )
    try:
        assert served.is_ready()
    finally:
        served_database.psql("DELETE FROM groundwork._sqlx_migrations WHERE version = 9999")


@promise("a pool larger than the role's connection limit makes the service not ready")
def test_a_pool_larger_than_the_role_may_connect_is_not_ready(start: Start) -> None:
    with start("--pool-size", "30", "--instances", "2") as service:
        wait_until(
            lambda: "role may have 60" in str(service.readiness()["checks"]["postgres"]["reason"]), 180
        )


@promise("`/readyz` answers within 2 s, also when a server is frozen")
def test_a_frozen_server_is_reported_in_bounded_time_until_it_recovers(
    sick_servers: dict[str, Server], sick_service: Service
) -> None:
    for ill, server in sick_servers.items():
        wait_until(sick_service.is_ready, 180)
        with frozen(server):
            took = []
            for _ in range(3):
                started = time.monotonic()
                status, body = sick_service.get("/readyz")
                took.append(time.monotonic() - started)
                assert status == 503, ill
                assert json.loads(body)["checks"][ill]["ok"] is False
            assert max(took) < READYZ_SECONDS, ill
            assert sick_service.get("/healthz")[0] == 200, ill
        wait_until(sick_service.is_ready, 180)


@promise("SIGTERM lets requests finish and returns every connection")
def test_a_stop_is_clean_and_leaves_no_connection(start: Start, database: Database) -> None:
    with start() as service:
        wait_until(service.is_ready, 180)
        code, seconds = service.stop()
        assert code == 0
        assert seconds < STOP_SECONDS
        assert service.logged("stopped")
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a' AND datname = current_database()"
    wait_until(lambda: database.psql(count).strip() == "0", 60)


@promise("SIGTERM lets requests finish and returns every connection")
def test_a_request_in_progress_is_answered_before_the_stop(
    sick_servers: dict[str, Server], namespace: str
) -> None:
    environment = {
        "DATABASE_URL": sick_servers["postgres"].database_url("app_a"),
        "REDIS_URL": sick_servers["redis"].redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    with running_service(**environment) as service:
        wait_until(service.is_ready, 180)
        # A frozen Postgres makes the check take its full second.
        client = HTTPConnection("127.0.0.1", service.port, timeout=60)
        with closing(client), frozen(sick_servers["postgres"]):
            client.request("GET", "/readyz")
            wait_until(lambda: _has_been_read(client))
            code, seconds = service.stop()
            assert client.getresponse().status == 503
        assert code == 0
        assert seconds < STOP_SECONDS


def _has_been_read(client: HTTPConnection) -> bool:
    """Return whether the server has accepted this connection and read what was sent, from Linux's list of sockets."""
    (_, port), (_, peer_port) = client.sock.getsockname(), client.sock.getpeername()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, _, _, _, _, inode, *_ = line.split()
        if local.endswith(f":{peer_port:04X}") and remote.endswith(f":{port:04X}"):
            return inode != "0" and queues.endswith(":00000000")
    return False


@promise("every log line of the service is JSON, without query strings")
def test_every_line_of_the_log_is_json_and_health_checks_leave_none(served: Service) -> None:
    def requests() -> list[tuple[str, int]]:
        lines = [line for line in served.lines[before:] if line["logger"] == "uvicorn.access"]
        return [(line["path"], line["status"]) for line in lines]

    # Other tests use the same service.
    before = len(served.lines)
    served.get("/healthz")
    served.get("/metrics")
    served.get("/nothing?token=canary")
    wait_until(lambda: bool(requests()), 60)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in served.lines)
    assert requests() == [("/nothing", 404)]
    assert "canary" not in "".join(served.raw)


def test_the_metrics_are_prometheus_text(served: Service) -> None:
    body = served.get("/metrics")[1]
    for name in (
        'groundwork_db_pool_size{pool="groundwork"}',
        'groundwork_db_query_duration_seconds_count{outcome="ok",query="read_ledger"}',
        "groundwork_outbox_depth 0.0",
        "groundwork_cache_breaker_open ",
        "groundwork_outbox_last_sweep_timestamp_seconds ",
        "groundwork_disk_free_bytes ",
        "groundwork_disk_size_bytes ",
        "process_resident_memory_bytes",
    ):
        assert name in body


def _metric(service: Service, name: str) -> float:
    return float(service.get("/metrics")[1].partition(f"\n{name} ")[2].split("\n")[0])


def test_the_last_sweep_of_the_outbox_is_reported(served: Service) -> None:
    wait_until(lambda: _metric(served, "groundwork_outbox_last_sweep_timestamp_seconds") > 0, 180)
    first = _metric(served, "groundwork_outbox_last_sweep_timestamp_seconds")
    assert abs(time.time() - first) < 60
    wait_until(lambda: _metric(served, "groundwork_outbox_last_sweep_timestamp_seconds") > first, 180)


def test_while_redis_is_down_the_outbox_is_measured_and_no_sweep_is_reported(
    sick_servers: dict[str, Server], sick_service: Service
) -> None:
    fill = "INSERT INTO groundwork.cache_outbox (entity, entity_id) SELECT 'user', n FROM generate_series(1, 9) AS n"
    wait_until(sick_service.is_ready, 180)
    with frozen(sick_servers["redis"]):
        sick_servers["postgres"].psql(fill, "groundwork")
        wait_until(lambda: _metric(sick_service, "groundwork_outbox_depth") == 9, 30)
        swept = _metric(sick_service, "groundwork_outbox_last_sweep_timestamp_seconds")
        wait_until(lambda: _metric(sick_service, "groundwork_outbox_age_seconds") > 5, 30)
        assert _metric(sick_service, "groundwork_outbox_last_sweep_timestamp_seconds") == swept
    wait_until(lambda: _metric(sick_service, "groundwork_outbox_depth") == 0, 30)


@promise("a row changed by plain SQL is read correctly within 2 s")
def test_a_row_changed_by_plain_sql_is_seen_within_two_seconds(
    start: Start, database: Database, redis_server: Server, namespace: str
) -> None:
    cache = cache_settings(redis_server.redis_url("app"), namespace)
    with start() as service, data_access("sync", database_settings(database.url("app")), cache) as data:
        wait_until(service.is_ready, 180)
        user = data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)
        database.psql("UPDATE groundwork.users SET username = 'after'")
        wait_until(lambda: data.users.get(user.id).username == "after", 3 * 2.0)
        wait_until(lambda: database.psql("SELECT count(*) FROM groundwork.cache_outbox").strip() == "0", 60)


@promise("a Redis that is slower than a reader's time limit still gets the invalidations of the outbox")
def test_a_redis_slower_than_a_readers_limit_gets_the_invalidations(
    start: Start, database: Database, redis_server: Server, namespace: str
) -> None:
    cache = cache_settings(redis_server.redis_url("app"), namespace, near_entries=0)
    with (
        slow_proxy(redis_server.port) as proxy,
        start(REDIS_URL=_through(proxy, redis_server)) as service,
        data_access("sync", database_settings(database.url("app")), cache) as data,
    ):
        wait_until(service.is_ready, 60)
        user = data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)
        proxy.delay_seconds = 3 * SHIPPED_TIMEOUT
        database.psql("UPDATE groundwork.users SET username = 'after'")
        wait_until(lambda: data.users.get(user.id).username == "after", 60)
        wait_until(lambda: _metric(service, "groundwork_outbox_lag_seconds_count") == 2, 60)


@promise(
    "a Redis that is slower than a reader's time limit still gets the invalidations of the outbox",
    control=True,
)
def test_with_a_readers_limit_the_entries_stay_in_the_outbox(
    database: Database, redis_server: Server, namespace: str
) -> None:
    with slow_proxy(redis_server.port) as proxy:
        cache = cache_settings(
            _through(proxy, redis_server), namespace, near_entries=0, timeout_seconds=SHIPPED_TIMEOUT
        )
        with data_access("sync", database_settings(database.url("app")), cache) as data:
            proxy.delay_seconds = 3 * SHIPPED_TIMEOUT
            data.users.add(NewUser(github_id=7, username="before"))
            with pytest.raises(Unavailable, match="stay in the outbox"):
                data.outbox.drain()
    assert database.psql("SELECT count(*) FROM groundwork.cache_outbox").strip() == "1"


def _through(proxy: SlowProxy, server: Server) -> str:
    return server.redis_url("app").replace(f":{server.port}/", f":{proxy.port}/")


def _make_hot(database: Database) -> None:
    database.psql(
        "WITH made AS (INSERT INTO groundwork.users (github_id, username) VALUES (7, 'ada') RETURNING id)"
        " INSERT INTO groundwork.activities (user_id, type, timestamp) SELECT id, 'x', now() FROM made"
    )
    # Otherwise the drainer would invalidate records while they are being warmed.
    database.psql("DELETE FROM groundwork.cache_outbox")


def test_the_hottest_records_are_cached_at_the_start(served: Service, redis_server: Server) -> None:
    wait_until(lambda: bool(served.logged("the cache is warm")), 180)
    assert served.logged("the cache is warm")[0]["users"] == 1
    with redis.Redis.from_url(redis_server.redis_url("ops"), driver_info=None) as ops:
        assert len(list(ops.scan_iter("gw:served:*user:*"))) == 1


def test_nothing_is_warmed_with_a_limit_of_zero(
    start: Start, database: Database, redis_server: Server, namespace: str
) -> None:
    _make_hot(database)
    with start(GROUNDWORK_WARM_LIMIT="0") as service:
        wait_until(service.is_ready, 180)
        service.stop()
        assert not service.logged("warm")
    with redis.Redis.from_url(redis_server.redis_url("ops"), driver_info=None) as ops:
        assert list(ops.scan_iter(f"gw:{namespace}:*user:*")) == []


@promise("warming at the start does not delay readiness")
def test_readiness_does_not_wait_for_a_warming_that_fails(start: Start, database: Database) -> None:
    database.psql("REVOKE SELECT ON groundwork.activities FROM app")
    with start() as service:
        wait_until(service.is_ready, 180)
        wait_until(lambda: bool(service.logged("warming the cache failed")), 60)


@promise("partitions for the coming months are created")
def test_the_months_ahead_have_their_partitions(served: Service, served_database: Database) -> None:
    exists = f"SELECT to_regclass('groundwork.{_last_partition()}') IS NOT NULL"
    wait_until(lambda: served_database.psql(exists).strip() == "t", 180)


def _last_partition() -> str:
    """Return the name of the partition for the month in three months."""
    now = datetime.now(UTC)
    month = now.year * 12 + now.month - 1 + 3
    return f"activities_{month // 12:04}_{month % 12 + 1:02}"
