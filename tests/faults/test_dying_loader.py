"""`seed`, `import` and `tokens rotate` are killed after each exchange with Postgres: the next run completes them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from db import DataAccess
from db.models import NewUser, Tokens
from db.token_keys import TokenKeys
from tests.conftest import Database
from tests.containers import Server
from tests.faults.dying_operator import run_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import IS_FULL

KILLED, ENDED = -9, 0
TABLES = ("users", "organizations", "repositories", "activities")
K1, K2 = f"k1:{'A' * 43}=", f"k2:{'B' * 43}="
TOKENS, TOKEN_BATCH = 12, 3
EVENTS, EVENT_BATCH = 5000, 2000
Operate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def operate(database: Database) -> Operate:
    """operate(3, "seed") runs a command, kills it after three exchanges (0: never), and returns the result."""

    def run(kill_after: int, *arguments: str, keys: str = K1) -> subprocess.CompletedProcess[str]:
        return run_until(
            "postgres",
            kill_after,
            *arguments,
            DATABASE_URL=database.url("app"),
            GROUNDWORK_TOKEN_KEYS=keys,
        )

    return run


def steps() -> Iterator[int]:
    """Yield the numbers of exchanges after which to kill: every number, or increasingly few."""
    yield from count(1) if IS_FULL else (1, 10, 16, 22, 30, 10_000)


def rows(database: Database) -> str:
    """Return everything that a load determines, without generated ids and times."""
    queries = (
        "SELECT github_id, username, email, preferences FROM groundwork.users ORDER BY 1",
        "SELECT github_id, name, description, member_count FROM groundwork.organizations ORDER BY 1",
        "SELECT r.github_id, o.github_id, r.name, r.stars FROM groundwork.repositories r"
        " LEFT JOIN groundwork.organizations o ON o.id = r.org_id ORDER BY 1",
        "SELECT a.github_event_id, u.github_id, r.github_id, a.type, a.data FROM groundwork.activities a"
        " JOIN groundwork.users u ON u.id = a.user_id"
        " LEFT JOIN groundwork.repositories r ON r.id = a.repo_id ORDER BY 1",
    )
    return database.psql(";".join(queries))


def activities(database: Database) -> int:
    # The server may still be executing what the killed process sent.
    return int(
        database.psql(
            "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE usename LIKE 'app%' AND datname ="
            " current_database()) LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$;"
            "SELECT count(*) FROM groundwork.activities"
        )
    )


def empty(database: Database) -> None:
    database.psql(f"TRUNCATE {', '.join('groundwork.' + table for table in TABLES)} CASCADE")


def test_a_seed_loads_everything_or_nothing(operate: Operate, database: Database) -> None:
    whole = operate(0, "seed")
    assert whole.returncode == ENDED, whole.stderr
    after, everything = rows(database), activities(database)
    ends = []
    for step in steps():
        empty(database)
        ends.append(operate(step, "seed").returncode)
        assert activities(database) in (0, everything)
        if ends[-1] == ENDED:
            break
        assert ends[-1] == KILLED
        assert operate(0, "seed").returncode == ENDED
        assert rows(database) == after
    assert ends[-1] == ENDED
    assert len(ends) > 3


@promise("a killed import leaves whole batches, and the same command completes it")
def test_an_import_loads_whole_batches(operate: Operate, database: Database, tmp_path: Path) -> None:
    hour = tmp_path / "2015-01-01-15.json"
    # Made-up events in GitHub Archive's format.
    hour.write_text(
        "".join(
            json.dumps(
                {
                    "id": str(n),
                    "type": "PushEvent",
                    "actor": {"id": n % 17 + 1, "login": f"user{n % 17 + 1}"},
                    "repo": {"id": n % 11 + 1, "name": f"o/r{n % 11 + 1}"},
                    "payload": {"n": n},
                    "public": True,
                    "created_at": f"2015-01-01T15:{n // 60 % 60:02}:{n % 60:02}Z",
                }
            )
            + "\n"
            for n in range(1, EVENTS + 1)
        )
    )
    command = ("import", "gharchive", str(hour))
    whole = operate(0, *command)
    assert whole.returncode == ENDED, whole.stderr
    after = rows(database)
    ends, loaded = [], set()
    for step in steps():
        empty(database)
        ends.append(operate(step, *command).returncode)
        there = activities(database)
        assert there in (0, EVENT_BATCH, 2 * EVENT_BATCH, EVENTS)
        loaded.add(there)
        if ends[-1] == ENDED:
            break
        assert ends[-1] == KILLED
        done = operate(0, *command)
        assert f"{EVENTS - there} loaded, {there} existed already" in done.stdout
        assert rows(database) == after
    assert ends[-1] == ENDED
    assert loaded >= {0, EVENT_BATCH, EVENTS}


@promise("the next key rotation completes a killed one")
def test_a_rotation_of_keys_leaves_every_token_readable(
    operate: Operate, database: Database, redis_server: Server, namespace: str
) -> None:
    with DataAccess(
        database_settings(database.url("app")),
        cache_settings(redis_server.redis_url("app"), namespace),
        TokenKeys.of(f"{K1},{K2}"),
    ) as data:
        users = [data.users.add(NewUser(github_id=n, username=f"u{n}")).id for n in range(1, TOKENS + 1)]
        for user in users:
            data.users.set_tokens(user, access_token=f"a{user}", refresh_token=f"r{user}")
        wanted = {user: Tokens(f"a{user}", f"r{user}") for user in users}
        command = ("tokens", "rotate", "--batch-size", str(TOKEN_BATCH))
        old, new = K1, K2
        ends, halves = [], 0
        for step in steps():
            ends.append(operate(step, *command, keys=f"{new},{old}").returncode)
            assert {user: data.users.tokens(user) for user in users} == wanted
            halves += len(keys_used(database)) == 2
            if ends[-1] == ENDED:
                break
            assert ends[-1] == KILLED
            done = operate(0, *command, keys=f"{new},{old}")
            assert "no token in this database needs the other keys" in done.stdout, done.stderr
            assert keys_used(database) == {new[:2]}
            assert {user: data.users.tokens(user) for user in users} == wanted
            # Rotate back in the next round.
            old, new = new, old
        assert ends[-1] == ENDED
        assert halves, "none was killed on its way"


def keys_used(database: Database) -> set[str]:
    rows = database.psql(
        "SELECT convert_from(substring(t from 3 for 2), 'latin1') FROM groundwork.users,"
        " unnest(ARRAY[access_token, refresh_token]) AS t WHERE t IS NOT NULL"
    )
    return set(rows.split())
