"""Servers that are missing, frozen or not trusted: one finding each, in bounded time. Also tests the command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from infra.certificates import SERVER_DAYS, make_server_certificate
from infra.docker.engine import File, copy_files
from infra.spec import postgres, roles
from ops import cli
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.doctor.checks import CHECKS
from ops.doctor.examination import CheckedServer
from ops.rotation.presented_certificate import presented_certificate
from ops.servers.monitored_stack import MonitoredStack
from tests import containers
from tests.conftest import Database
from tests.containers import SERVER_NAMES, Server, frozen, wait_until
from tests.integration.doctor.asking import ask_all
from tests.monitored import monitored
from tests.promises import promise

Run = Callable[..., tuple[int, str, str]]
# The deadlines of a server add up to 6 s, and the servers are checked concurrently. The limit is three times that.
BOUND_SECONDS = 20


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run groundwork doctor with the test's servers, and return exit code, stdout and stderr."""

    def run(stack: MonitoredStack, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(MonitoredStack, "of", lambda name: stack)
        with pytest.raises(SystemExit) as exit_:
            cli.main(["doctor", *arguments])
        out, err = capfd.readouterr()
        code = exit_.value.code
        return int(code or 0), out, err

    return run


@pytest.fixture
def frozen_servers(ill_postgres: Server, ill_redis: Server) -> Iterator[tuple[Server, Server]]:
    """A Postgres and a Redis that accept connections but do not answer."""
    with frozen(ill_postgres), frozen(ill_redis):
        yield ill_postgres, ill_redis


def of(findings: dict[str, CheckResult], server: CheckedServer) -> dict[str, CheckResult]:
    names = {check.name for check in CHECKS if check.server is server and not check.reaches}
    return {name: finding for name, finding in findings.items() if name in names}


@promise("doctor ends within seconds if a server is frozen, and checks the other")
def test_a_frozen_server_is_one_failed_check_within_seconds(
    redis_server: Server, frozen_servers: tuple[Server, Server]
) -> None:
    frozen_postgres, redis = frozen_servers
    ill = Database(frozen_postgres, roles.DATABASE)
    began = time.monotonic()
    findings = ask_all(monitored(ill, redis, access_url=f"http://localhost:{redis.port}"))
    assert time.monotonic() - began < BOUND_SECONDS
    for name in ("postgres", "redis", "access"):
        assert findings[name].status is CheckStatus.FAIL
        assert findings[name].unreachable
    for server in (CheckedServer.POSTGRES, CheckedServer.REDIS):
        assert {f.status for f in of(findings, server).values()} == {CheckStatus.SKIPPED}


@promise("doctor ends within seconds if a server is frozen, and checks the other")
def test_the_other_server_is_still_examined(
    database: Database, frozen_servers: tuple[Server, Server]
) -> None:
    findings = ask_all(monitored(database, frozen_servers[1]))
    assert findings["redis"].unreachable
    assert findings["redis-memory"].text == "Redis is unreachable"
    assert findings["postgres"].status is CheckStatus.OK
    assert findings["grants"].status is CheckStatus.OK


def test_a_failed_docker_exec_stops_no_other_check(database: Database, redis_server: Server) -> None:
    findings = ask_all(monitored(database, redis_server, postgres_container="gw-missing-postgres"))
    assert not any(finding.unreachable for finding in findings.values())
    bloat = findings["bloat"]
    assert bloat.status is CheckStatus.SKIPPED
    assert bloat.text.startswith("gw-missing-postgres: ")
    for name in ("postgres-settings", "roles"):
        assert findings[name].status is CheckStatus.WARN
        assert "not visible: gw-missing-postgres: " in findings[name].text
    for name in ("dead-rows", "wraparound", "migrations", "grants", "postgres-clock"):
        assert findings[name].status is CheckStatus.OK, name


@pytest.mark.parametrize(
    ("change", "check", "reason"),
    [
        ({"database_url": "postgresql://monitor_a:x@localhost:1/groundwork"}, "postgres", "refused"),
        ({"redis_url": "rediss://monitor:x@localhost:1/0"}, "redis", "refused"),
        ({"access_url": "http://localhost:1"}, "access", "refused"),
    ],
)
def test_a_missing_server_is_exit_code_6(
    database: Database, redis_server: Server, command: Run, change: dict[str, str], check: str, reason: str
) -> None:
    code, out, err = command(monitored(database, redis_server, **change), "--json")
    findings = {entry["name"]: entry for entry in json.loads(out)["checks"]}
    assert (code, err) == (6, "")
    assert json.loads(out)["exit_code"] == 6
    assert findings[check]["status"] == "fail"
    assert reason in findings[check]["finding"].lower()
    assert "groundwork status" in findings[check]["advice"]
    assert "x@" not in out


@promise("no message quotes a connection string or password")
@pytest.mark.parametrize(
    ("field", "check", "reason"),
    [
        ("database_url", "postgres", "password authentication failed"),
        ("redis_url", "redis", "invalid username-password pair"),
        ("ops_redis_url", "redis", "invalid username-password pair"),
    ],
)
def test_a_wrong_password_is_reported_and_not_printed(
    database: Database, redis_server: Server, command: Run, field: str, check: str, reason: str
) -> None:
    right = monitored(database, redis_server)
    url = getattr(right, field)
    head, _, rest = url.partition("@")
    wrong = f"{head.rpartition(':')[0]}:wr0ng-secret@{rest}"
    code, out, _ = command(monitored(database, redis_server, **{field: wrong}), "--only", check)
    assert code == 6
    assert reason in " ".join(out.split())
    assert "wr0ng-secret" not in out


def test_a_check_of_an_unreachable_server_names_the_check_that_reports_it(
    database: Database, redis_server: Server, command: Run
) -> None:
    stack = monitored(database, redis_server, redis_url="rediss://monitor:x@localhost:1/0")
    code, out, _ = command(stack, "--json", "--only", "evictions")
    assert code == 6
    assert [(c["name"], c["status"]) for c in json.loads(out)["checks"]] == [
        ("redis", "fail"),
        ("evictions", "skipped"),
    ]
    code, out, _ = command(stack, "--json", "--only", "locks")
    assert (code, [c["name"] for c in json.loads(out)["checks"]]) == (0, ["locks"])


@promise("certificates that expire soon and wrong clocks are found")
@pytest.mark.parametrize(("days", "status", "code"), [(10, CheckStatus.WARN, 0), (-2, CheckStatus.FAIL, 6)])
def test_a_certificate_is_reported_before_and_after_its_expiry(
    docker_engine: None,
    database: Database,
    redis_server: Server,
    command: Run,
    days: int,
    status: CheckStatus,
    code: int,
) -> None:
    with containers.redis_server(certificate_days=days) as redis:
        stack = monitored(database, redis)
        got, out, _ = command(stack, "--json", "--only", "certificates,redis")
    findings = {entry["name"]: entry for entry in json.loads(out)["checks"]}
    assert got == code
    assert findings["certificates"]["status"] == status.value
    assert "Redis's" in findings["certificates"]["finding"]
    if days < 0:
        assert "certificate has expired" in findings["redis"]["finding"]


def test_a_postgres_with_an_expired_certificate_is_not_trusted(
    ill_postgres: Server, redis_server: Server
) -> None:
    set_certificate(ill_postgres, -2)
    try:
        findings = ask_all(monitored(Database(ill_postgres, roles.DATABASE), redis_server))
    finally:
        set_certificate(ill_postgres, SERVER_DAYS)
    assert findings["postgres"].unreachable
    assert "certificate" in findings["postgres"].text
    assert findings["certificates"].status is CheckStatus.FAIL
    assert "Postgres's expired 2 days ago" in findings["certificates"].text


def set_certificate(server: Server, days: int) -> None:
    """Give a Postgres a certificate that is valid for so many days, and wait until it presents it."""
    pair = make_server_certificate(server.authority, SERVER_NAMES, days)
    files = {"server.crt": pair.certificate, "server.key": pair.private_key}
    owned = {name: File(text, postgres.UID, postgres.UID) for name, text in files.items()}
    copy_files(server.container, postgres.CONFIG_DIR, owned)
    server.psql("SELECT pg_reload_conf()")
    address = {"host": "localhost", "port": server.port}
    wait_until(lambda: presented_certificate("postgres", address) == pair.certificate)


def test_a_failed_check_is_exit_code_4_and_a_skipped_one_is_not(
    stack: MonitoredStack, database: Database, command: Run
) -> None:
    assert command(stack)[0] == 0
    database.psql("GRANT TRUNCATE ON groundwork.users TO app")
    code, out, _ = command(stack)
    assert code == 4
    assert "fail" in out
    assert "app may TRUNCATE table users" in out
    assert command(stack, "--skip", "grants")[0] == 0


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_unknown_check_is_refused_with_the_names_of_the_checks(
    stack: MonitoredStack, command: Run, option: str
) -> None:
    code, out, err = command(stack, option, "lock")
    assert (code, out) == (2, "")
    assert "did you mean locks?" in err
    assert len(err.splitlines()) == 1


def test_what_others_wrote_moves_no_cursor(stack: MonitoredStack, database: Database, command: Run) -> None:
    database.psql('CREATE TABLE groundwork."red\x1b[31m" (id int)')
    code, out, _ = command(stack, "--only", "grants")
    assert code == 4
    assert "\\u001b[31m" in out
    assert "\x1b[31m" not in out
