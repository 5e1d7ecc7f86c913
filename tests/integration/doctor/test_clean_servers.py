"""With servers as specified, no check finds a problem, and none changes anything."""

from __future__ import annotations

import pytest

from infra.docker.engine import DockerError, psql
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.doctor.checks import CHECKS
from ops.servers.errors import NotVisible
from ops.servers.monitored_postgres import MonitoredPostgres
from ops.servers.monitored_stack import MonitoredStack
from tests.conftest import Database, cloned_database
from tests.containers import Server
from tests.integration.doctor.asking import ask_all
from tests.monitored import monitored
from tests.promises import promise

# What a test server does not have: an access service, backups, statistics of a week, and replicas.
ABSENT = {
    "access": "no access service",
    "backups": "backups are not set up",
    "unused-indexes": "days old",
    "replicas": "no replicas in Docker",
    "redis-replicas": "one Redis server",
    "etcd": "no replicas of Postgres in Docker",
    "sentinels": "no replicas of Redis in Docker",
}
# Depends on what other tests have stored on the shared server, and deleted. test_redis_findings.py has its own server.
SHARED = {"fragmentation"}


@pytest.fixture(scope="module")
def findings(postgres_server: Server, migrated_template: str, redis_server: Server) -> dict[str, CheckResult]:
    with cloned_database(postgres_server, migrated_template) as clone:
        return ask_all(monitored(clone, redis_server))


@promise("doctor finds no problem on a new stack")
@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.name not in ABSENT.keys() | SHARED])
def test_a_clean_server_is_ok(findings: dict[str, CheckResult], name: str) -> None:
    assert findings[name].status is CheckStatus.OK, findings[name]


@pytest.mark.parametrize(("name", "reason"), ABSENT.items())
def test_what_is_not_there_is_skipped_with_its_reason(
    findings: dict[str, CheckResult], name: str, reason: str
) -> None:
    assert findings[name].status is CheckStatus.SKIPPED
    assert reason in findings[name].text


def test_without_a_local_socket_what_only_a_superuser_sees_is_skipped(
    database: Database, redis_server: Server
) -> None:
    findings = ask_all(monitored(database, redis_server, postgres_container=None))
    skipped = {name for name, finding in findings.items() if finding.status is CheckStatus.SKIPPED}
    assert skipped == {"bloat", "packages", "chaos", *ABSENT}
    assert findings["migrations"].status is CheckStatus.OK
    assert findings["postgres-settings"].status is CheckStatus.OK
    assert findings["grants"].status is CheckStatus.OK


@promise("doctor changes nothing and blocks no writer")
def test_doctor_writes_no_row_and_takes_no_lock_that_stops_writers(
    stack: MonitoredStack, database: Database
) -> None:
    state = (
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables; SELECT pg_current_xact_id()"
    )

    def drawn() -> int:
        """Return how many transaction ids doctor used, without the one of psql."""
        database.psql("SELECT pg_stat_force_next_flush()")
        before = database.psql(state).split()
        ask_all(stack)
        after = database.psql(state).split()
        assert before[0] == after[0]
        return int(after[1]) - int(before[1]) - 1

    # Autovacuum uses one occasionally. If doctor wrote, it would use one each time.
    assert 0 in (drawn() for _ in range(3))


@promise("doctor changes nothing and blocks no writer", control=True)
@pytest.mark.parametrize("role", ["monitor", "superuser"])
def test_a_statement_that_writes_is_refused(stack: MonitoredStack, database: Database, role: str) -> None:
    postgres = MonitoredPostgres(stack)
    if role == "superuser":
        write = "WITH gone AS (DELETE FROM groundwork.users RETURNING id) SELECT * FROM gone"
        # superuser_rows() embeds the statement in a query, where it is not valid; alone it runs in a read-only
        # transaction.
        with pytest.raises(NotVisible):
            postgres.superuser_rows(write)
        with pytest.raises(DockerError, match="read-only transaction"):
            psql(stack.postgres_container or "", f"BEGIN READ ONLY; {write}", database=stack.database)
    else:
        from ops.errors import OpsError

        with pytest.raises(OpsError, match="read-only transaction"):
            postgres.rows("CREATE TABLE public.probe (id int)")
        postgres.close()
