"""Search for a token wherever it must not be: in the files, dumps and logs of Postgres and in the files of Redis.

Each place must also contain something that belongs there, because otherwise the search would prove nothing.
"""

from __future__ import annotations

import base64
import logging
import secrets
import subprocess
import traceback
from collections.abc import Iterator

import pytest
import redis

from db import DataAccess
from db.errors import DbError, TokenUnreadable
from db.migrator import apply_pending, read_source
from db.models import NewUser
from db.token_keys import TokenKeys
from infra.spec import roles
from tests import containers
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

NAME = "planted-in-the-open"
LOG_ALL = {"log_statement": "all", "log_duration": "on", "log_parameter_max_length_on_error": "-1"}


@pytest.fixture(scope="module")
def chatty_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres that logs every statement with its parameters."""
    with containers.postgres_server(LOG_ALL, in_memory=True) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@pytest.fixture(scope="module")
def writing_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis that writes every change to a file."""
    with containers.redis_server(persistence="aof", administrator=True) as server:
        yield server


def forms(canary: str) -> dict[str, bytes]:
    """Return the forms of a token: plain, hex, and base64 at three offsets without the last characters."""
    raw = canary.encode()
    shifted = [base64.b64encode(b"x" * n + raw)[4:-4] for n in range(3)]
    return {"plain": raw, "hex": raw.hex().encode()} | {f"base64+{n}": each for n, each in enumerate(shifted)}


def inside(server: Server, command: str) -> bytes:
    """Return the output of a shell command in the container."""
    done = subprocess.run(
        ["docker", "exec", server.container, "sh", "-c", command],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout


def logs(server: Server) -> bytes:
    done = subprocess.run(["docker", "logs", server.container], capture_output=True, check=True, timeout=60)
    return done.stdout + done.stderr


@promise("tokens never enter Redis, logs, dumps or tracebacks in clear")
def test_a_token_is_in_no_file_dump_log_or_traceback(
    chatty_postgres: Server, writing_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    canary = f"gho_{secrets.token_hex(20)}"
    caplog.set_level(logging.DEBUG)
    told = []
    with DataAccess(
        database_settings(chatty_postgres.database_url("app_a")),
        cache_settings(writing_redis.redis_url("app"), "canary", near_entries=0),
        TokenKeys.of(f"k1:{secrets.token_urlsafe(32)},k2:{secrets.token_urlsafe(32)}"),
    ) as data:
        user = data.users.add(NewUser(github_id=7, username=NAME))
        data.users.set_tokens(user.id, access_token=canary, refresh_token=canary)
        assert data.users.tokens(user.id).access == canary
        assert data.users.get(user.id).username == NAME
        # An update of the user's row, which contains the tokens, and errors.
        chatty_postgres.psql(
            "UPDATE groundwork.users SET refresh_token = access_token WHERE username = 'planted-in-the-open'",
            roles.DATABASE,
        )
        for call in (
            lambda: data.users.tokens(user.id),
            lambda: data.users.set_tokens(user.id, access_token=f"{canary}\0"),
            lambda: data.users.set_tokens(2**40, access_token=canary),
        ):
            with pytest.raises(DbError) as caught:
                call()
            told.append("".join(traceback.format_exception(caught.value)))
    assert TokenUnreadable.__name__ in told[0]
    chatty_postgres.psql("CHECKPOINT")
    with redis.Redis.from_url(writing_redis.redis_url("administrator"), driver_info=None) as administrator:
        folder = administrator.config_get("dir")["dir"]
        memory = b"".join(administrator.get(key) or b"" for key in administrator.scan_iter())
    places = {
        "PGDATA and WAL": inside(chatty_postgres, f"cat $(grep -rlaF {NAME} \"$PGDATA\")"),
        "the whole of PGDATA": inside(chatty_postgres, f"grep -raFo -e {canary} -e {NAME} \"$PGDATA\" | tail -n 5"),
        "pg_dump": inside(chatty_postgres, f"pg_dump {roles.DATABASE}"),
        "Postgres's log": logs(chatty_postgres),
        "Redis's memory": memory,
        "Redis's files": inside(writing_redis, f"find {folder} -type f -exec cat {{}} +"),
        "our log and tracebacks": (caplog.text + "".join(told) + NAME).encode(),
    }  # fmt: skip
    for place, content in places.items():
        assert NAME.encode() in content, f"{place}: not even what belongs there is found"
        found = [form for form, wanted in forms(canary).items() if wanted in content]
        assert found == [], place


@promise("tokens never enter Redis, logs, dumps or tracebacks in clear", control=True)
def test_a_token_that_is_not_encrypted_is_found_in_each_of_postgres_places(chatty_postgres: Server) -> None:
    """The negative control: a token written without encryption."""
    canary = f"gho_{secrets.token_hex(20)}"
    chatty_postgres.psql(
        "INSERT INTO groundwork.users (github_id, username, access_token)"
        f" VALUES (99, '{canary[:8]}', convert_to('{canary}', 'UTF8')); CHECKPOINT",
        roles.DATABASE,
    )
    assert canary.encode() in inside(chatty_postgres, f'grep -raFoh {canary} "$PGDATA" | tail -n 1')
    assert canary.encode() in logs(chatty_postgres)
    dump = inside(chatty_postgres, f"pg_dump {roles.DATABASE}")
    assert forms(canary)["hex"] in dump
