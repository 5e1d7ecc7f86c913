"""A pool whose server ends its sessions, and one whose primary is another server now."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from db import load_queries
from db.errors import DeadlineExceeded, OutcomeUnknown
from infra.docker.engine import docker
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.faults.slow_proxy import slow_proxy
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise

QUERIES = load_queries("""
-- name: pid :read
-- Return the session's process, after a while.
-- takes: seconds float
-- gives: int
SELECT pg_backend_pid() FROM (SELECT pg_sleep(%(seconds)s)) AS slept;

-- name: wait :write
-- Wait until the session is ended.
-- takes: nothing
-- gives: int
SELECT 1 FROM (SELECT pg_sleep(60)) AS slept;
""")
_OURS = "usename = 'app_a' AND datname = current_database()"


def _sessions(database: Database) -> set[str]:
    return set(database.psql(f"SELECT pid FROM pg_stat_activity WHERE {_OURS}").split())


def _is_idle(data: Any) -> bool:
    statistics = data.pool.statistics()
    return bool(0 < statistics["pool_size"] == statistics["pool_available"])


def test_connections_are_replaced_after_the_server_ends_a_session(open_data: Any, database: Database) -> None:
    data = open_data(pool_size=4, pool_min_size=4)
    wait_until(lambda: len(_sessions(database)) == 4)
    before = _sessions(database)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(data.fetch_all, QUERIES["wait"], int)
        ending = (
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS} AND wait_event = 'PgSleep'"
        )
        wait_until(lambda: bool(database.psql(ending).strip()))
        with pytest.raises(OutcomeUnknown):
            waiting.result(30)
    data.users.count()
    wait_until(lambda: len(_sessions(database)) == 4 and not _sessions(database) & before)


@promise("callers do not fail on each dead connection of a server that does not answer")
def test_idle_connections_are_replaced_after_one_call_got_no_answer(
    open_data: Any, database: Database, postgres_server: Server
) -> None:
    """The server processes of all connections are frozen. New connections are served."""
    data = open_data(pool_size=4, pool_min_size=4, deadline_seconds=2.0)
    wait_until(lambda: len(_sessions(database)) == 4 and _is_idle(data))
    frozen = " ".join(_sessions(database))
    made = data.pool.statistics()["connections_num"]
    docker("exec", postgres_server.container, "sh", "-c", f"kill -STOP {frozen}")
    try:
        with pytest.raises(DeadlineExceeded):
            data.users.count()
        wait_until(lambda: data.pool.statistics()["connections_num"] >= made + 4 and _is_idle(data))
        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(data.fetch_one, QUERIES["pid"], int, seconds=0.1) for _ in range(4)]
            assert not {str(each.result(30)) for each in asked} & set(frozen.split())
    finally:
        docker("exec", postgres_server.container, "sh", "-c", f"kill -CONT {frozen}")


@promise("connections to a former primary are replaced when another server turns out to be the primary")
def test_connections_to_the_former_primary_are_replaced(
    flavour: str, database: Database, postgres_server: Server
) -> None:
    """Both proxies lead to the same server. The first one stops to accept connections, as a failed primary does."""
    with slow_proxy(postgres_server.port) as former, slow_proxy(postgres_server.port) as latter:
        url = database.url("app").replace(
            f"localhost:{postgres_server.port}/", f"localhost:{former.port},localhost:{latter.port}/"
        )
        nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
        with data_access(flavour, database_settings(url, pool_size=4), nowhere) as data:
            data.users.count()
            # The pool may have grown while its first connection was made.
            wait_until(lambda: _is_idle(data))
            before = _sessions(database)
            former.stop_listening()
            with ThreadPoolExecutor(4) as threads:
                asked = [
                    threads.submit(data.fetch_one, QUERIES["pid"], int, seconds=1.0)
                    for _ in range(len(before) + 1)
                ]
                found = {str(each.result(30)) for each in asked}
            wait_until(lambda: not _sessions(database) & before)
            assert found - before
