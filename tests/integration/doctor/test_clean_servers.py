"""On servers as the specification makes them no check has anything to say, and none changes anything."""

from __future__ import annotations

import pytest

from infra.docker.engine import DockerError, psql
from ops.doctor.checks import CHECKS
from ops.doctor.finding import Finding, Status
from ops.monitored_postgres import MonitoredPostgres
from ops.monitored_stack import MonitoredStack
from ops.server_errors import ServerUnreachable
from tests.conftest import Database, cloned_database
from tests.containers import Server
from tests.integration.doctor.asking import ask_all
from tests.monitored import monitored

# What a throwaway server has not: an access service, backups, statistics of a week.
ABSENT = {"access": "no access service", "backups": "no backups are set up", "unused-indexes": "days old"}


@pytest.fixture(scope="module")
def findings(postgres_server: Server, migrated_template: str, redis_server: Server) -> dict[str, Finding]:
    with cloned_database(postgres_server, migrated_template) as clone:
        return ask_all(monitored(clone, redis_server))


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.name not in ABSENT])
def test_a_clean_server_is_ok(findings: dict[str, Finding], name: str) -> None:
    assert findings[name].status is Status.OK, findings[name]


@pytest.mark.parametrize(("name", "reason"), ABSENT.items())
def test_what_is_not_there_is_skipped_with_its_reason(
    findings: dict[str, Finding], name: str, reason: str
) -> None:
    assert findings[name].status is Status.SKIPPED
    assert reason in findings[name].text


def test_without_a_local_socket_what_only_a_superuser_sees_is_skipped(
    database: Database, redis_server: Server
) -> None:
    findings = ask_all(monitored(database, redis_server, postgres_container=None))
    skipped = {name for name, finding in findings.items() if finding.status is Status.SKIPPED}
    assert skipped == {"bloat", "migrations", *ABSENT}
    assert findings["postgres-settings"].status is Status.OK
    assert findings["grants"].status is Status.OK


def test_doctor_writes_no_row_and_takes_no_lock_that_stops_writers(
    stack: MonitoredStack, database: Database
) -> None:
    state = (
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables; SELECT pg_current_xact_id()"
    )

    def drawn() -> int:
        """Transaction ids that were drawn meanwhile, beside the one that psql itself drew."""
        database.psql("SELECT pg_stat_force_next_flush()")
        before = database.psql(state).split()
        ask_all(stack)
        after = database.psql(state).split()
        assert before[0] == after[0]
        return int(after[1]) - int(before[1]) - 1

    # The server's own autovacuum draws one now and then; doctor would each time.
    assert 0 in (drawn() for _ in range(3))


@pytest.mark.parametrize("role", ["monitor", "superuser"])
def test_a_statement_that_writes_is_refused(stack: MonitoredStack, database: Database, role: str) -> None:
    postgres = MonitoredPostgres(stack)
    if role == "superuser":
        write = "WITH gone AS (DELETE FROM groundwork.users RETURNING id) SELECT * FROM gone"
        # As a part of a question it is no statement of its own; by itself it is read-only.
        with pytest.raises(ServerUnreachable):
            postgres.superuser_rows(write)
        with pytest.raises(DockerError, match="read-only transaction"):
            psql(stack.postgres_container or "", f"BEGIN READ ONLY; {write}", database=stack.database)
    else:
        from ops.errors import OpsError

        with pytest.raises(OpsError, match="read-only transaction"):
            postgres.rows("CREATE TABLE public.probe (id int)")
        postgres.close()
