"""Tokens with a real server: they are encrypted, separate from the user, and keys are rotated without downtime."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner
from msgspec.structs import replace

from db import DataAccess
from db.crypto import Keyring, Place
from db.errors import InvalidInput, InvalidSetting, NotFound, TokenUnreadable, UnknownTokenKey
from db.models import NewUser, Tokens
from db.token_keys import TokenKeys
from ops.commands.tokens import tokens
from ops.errors import Exit, OpsError
from ops.rotation.tokens import rotate_tokens
from ops.stack.token_keys import refuse_to_lose_keys
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

K0, K1, K2 = (f"{name}:{secrets.token_urlsafe(32)}" for name in ("k0", "k1", "k2"))
ADA = NewUser(github_id=7, username="ada")
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture
def opened(database: Database, redis_server: Server, namespace: str) -> Iterator[Any]:
    """Open a data access with the given keys."""
    with ExitStack() as stack:

        def open_with(keys: str | None) -> DataAccess:
            return stack.enter_context(
                DataAccess(
                    database_settings(database.url("app")),
                    cache_settings(redis_server.redis_url("app"), namespace),
                    None if keys is None else TokenKeys.of(keys),
                )
            )

        yield open_with


def _keys_used(database: Database) -> list[str]:
    rows = database.psql(
        "SELECT convert_from(substring(t from 3 for 2), 'latin1') FROM groundwork.users,"
        " unnest(ARRAY[access_token, refresh_token]) AS t WHERE t IS NOT NULL"
    )
    return rows.split()


def test_tokens_are_returned_and_a_token_left_out_is_kept(opened: Any) -> None:
    data = opened(K1)
    user = data.users.add(ADA)
    assert data.users.tokens(user.id) == Tokens(None, None)
    data.users.set_tokens(user.id, access_token="a1", refresh_token="r1")
    data.users.set_tokens(user.id, access_token="a2")
    assert data.users.tokens(user.id) == Tokens("a2", "r1")
    data.users.set_tokens(user.id, refresh_token=None)
    assert data.users.tokens(user.id) == Tokens("a2", None)


def test_a_user_id_of_an_int_subclass_is_the_user_of_its_number(opened: Any) -> None:
    class Roman(int):
        def __str__(self) -> str:
            return "VII"

    data = opened(K1)
    user = data.users.add(ADA)
    data.users.set_tokens(Roman(user.id), access_token="a", refresh_token="r")
    assert data.users.tokens(user.id) == data.users.tokens(Roman(user.id)) == Tokens("a", "r")


def test_writing_tokens_does_not_conflict_with_an_update(opened: Any) -> None:
    data = opened(K1)
    user = data.users.add(ADA)
    data.users.set_tokens(user.id, access_token="a")
    updated = data.users.update(replace(user, username="countess"))
    assert updated.row_version == user.row_version + 1
    assert data.users.tokens(user.id).access == "a"


def test_bad_calls_are_typed_errors(opened: Any) -> None:
    data = opened(K1)
    for call in (data.users.tokens, lambda n: data.users.set_tokens(n, access_token="a")):
        with pytest.raises(NotFound):
            call(4711)
    user = data.users.add(ADA)
    for bad in ("", "a\0b", "\ud800", 7):
        with pytest.raises(InvalidInput, match="access_token"):
            data.users.set_tokens(user.id, access_token=bad)
    without = opened(None)
    assert without.users.get(user.id) == user
    with pytest.raises(InvalidSetting, match="GROUNDWORK_TOKEN_KEYS"):
        without.users.tokens(user.id)


def test_a_key_that_was_added_while_a_read_waited_is_used(
    database: Database, redis_server: Server, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(K1)
    keys = TokenKeys.from_environment({"GROUNDWORK_TOKEN_KEYS_FILE": str(file)})
    cache = cache_settings(redis_server.redis_url("app"), namespace)
    with (
        DataAccess(database_settings(database.url("app")), cache, keys) as data,
        ThreadPoolExecutor(1) as thread,
    ):
        user = data.users.add(ADA)
        calls: list[tuple[str, Callable[[], object], object]] = [
            ("get", lambda: data.users.tokens(user.id).access, "get"),
            ("rotate", lambda: data.users._vault.rotate(0, 10).unreadable, []),
        ]
        for n, (name, call, expected) in enumerate(calls, start=2):
            new = f"k{n}:{secrets.token_urlsafe(32)}"
            sealed = Keyring.parse(new, "new").encrypt(name, Place("users", user.id, "access_token"))
            with in_case(name), psycopg.connect(database.url("app")) as connection:
                connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
                called = thread.submit(call)
                wait_until(lambda: database.psql(_WAITING).strip() == "1")
                file.write_text(f"{new},{file.read_text()}")
                connection.execute("UPDATE users SET access_token = %s WHERE id = %s", (sealed, user.id))
                connection.commit()
                assert called.result() == expected


@promise("a token that was changed, or moved to another row or column, cannot be decrypted")
def test_a_ciphertext_of_another_row_does_not_open(opened: Any, database: Database) -> None:
    data = opened(K1)
    ada, grace = data.users.add(ADA), data.users.add(NewUser(github_id=8, username="grace"))
    data.users.set_tokens(ada.id, access_token="ada's")
    database.psql(
        "UPDATE groundwork.users SET access_token = (SELECT access_token FROM groundwork.users"
        f" WHERE id = {ada.id}) WHERE id = {grace.id}"
    )
    with pytest.raises(TokenUnreadable, match=f"access_token of users row {grace.id}"):
        data.users.tokens(grace.id)


def _read_each_others_writes(opened: Any, *keys: str) -> None:
    """Read with each of `keys` what was written with each of them."""
    programs = [opened(each) for each in keys]
    user = programs[0].users.add(ADA)
    for n, writer in enumerate(programs):
        writer.users.set_tokens(user.id, access_token=f"a{n}")
        assert [reader.users.tokens(user.id).access for reader in programs] == [f"a{n}"] * len(programs)


@promise("while a new token key is distributed in two steps, every program reads every token")
@pytest.mark.parametrize("keys", [(K1, f"{K1},{K2}"), (f"{K1},{K2}", f"{K2},{K1}")], ids=["step 1", "step 2"])
def test_programs_read_each_others_tokens_while_a_new_key_is_distributed(
    opened: Any, keys: tuple[str, ...]
) -> None:
    _read_each_others_writes(opened, *keys)


@promise("while a new token key is distributed in two steps, every program reads every token", control=True)
def test_a_new_key_that_is_distributed_in_front_of_the_old_one_cannot_be_read_everywhere(opened: Any) -> None:
    with pytest.raises(UnknownTokenKey, match="'k2'"):
        _read_each_others_writes(opened, K1, f"{K2},{K1}")


def test_a_rotation_brings_all_under_the_new_key_and_a_second_has_nothing_to_do(
    opened: Any, database: Database
) -> None:
    data = opened(K1)
    users = [data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in range(1, 8)]
    for user in users[:-1]:
        data.users.set_tokens(user.id, access_token=f"a{user.id}", refresh_token=f"r{user.id}")
    both = TokenKeys.of(f"{K2},{K1}")
    lines: list[str] = []
    done = rotate_tokens(database.url("app"), "none", both, 2, lines.append)
    assert (done.key, done.users, done.rotated, done.unreadable) == ("k2", 6, 6, [])
    # In each of two passes three batches, and the last user, who has no tokens.
    assert len(lines) == 8
    assert set(_keys_used(database)) == {"k2"}
    again = rotate_tokens(database.url("app"), "none", both, 500, lines.append)
    assert (again.users, again.rotated) == (6, 0)
    only_new = opened(K2)
    for user in users[:-1]:
        assert only_new.users.tokens(user.id) == Tokens(f"a{user.id}", f"r{user.id}")


def test_a_statement_of_a_rotation_reads_a_bounded_number_of_users(
    opened: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username) SELECT n, 'u' || n FROM generate_series(1, 3000) AS n"
    )
    data = opened(K1)
    for user_id in (1, 3000):
        data.users.set_tokens(user_id, refresh_token=f"r{user_id}")
    monkeypatch.setattr("db._sync.tokens._WINDOW", 500)
    lines: list[str] = []
    done = rotate_tokens(database.url("app"), "none", TokenKeys.of(f"{K2},{K1}"), 100, lines.append)
    assert (done.users, done.rotated, done.is_complete) == (2, 2, True)
    assert lines == [
        f"users up to id {last_id}: {1 + (last_id == 3000)} checked, {changed} changed"
        for found in ((1, 1, 1, 1, 1, 2), (2,) * 6)
        for last_id, changed in zip(range(500, 3001, 500), found, strict=True)
    ]
    assert _keys_used(database) == ["k2", "k2"]


def test_a_batch_smaller_than_the_tokens_of_its_window_skips_no_user(
    opened: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(K1)
    users = [data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in range(1, 12)]
    for user in users[1::2]:
        data.users.set_tokens(user.id, access_token="a")
    # Deleted users leave gaps in the ids.
    for user in users[2:6:2]:
        data.users.delete(user.id)
    monkeypatch.setattr("db._sync.tokens._WINDOW", 4)
    for batch_size in (1, 2, 4, 100):
        done = rotate_tokens(
            database.url("app"), "none", TokenKeys.of(f"{K2},{K1}"), batch_size, lambda line: None
        )
        assert (done.users, done.is_complete) == (5, True), batch_size
    assert _keys_used(database) == ["k2"] * 5


@pytest.mark.parametrize(
    ("keys", "keyring", "advice"),
    [
        (["k1"], "k1, from GROUNDWORK_TOKEN_KEYS", ""),
        (
            ["k2", "k1", "k0"],
            "k2, k1, k0, from GROUNDWORK_TOKEN_KEYS",
            "; no token in this database needs the other keys (k1, k0); remove older ones when you need no older"
            " backup",
        ),
        (
            [],
            "k2, k1, from stack 'dev'",
            "; before you remove another key (k1), check that this is the database of stack 'dev'",
        ),
    ],
    ids=["one key", "several keys", "the keys of a stack and another database"],
)
def test_a_rotation_names_its_keyring_and_the_keys_that_can_be_removed(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    keys: list[str],
    keyring: str,
    advice: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url("app"))
    monkeypatch.setattr("ops.stack.connections.token_keys_of", lambda stack: f"{K2},{K1}")
    for name in ("GROUNDWORK_TOKEN_KEYS", "GROUNDWORK_TOKEN_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    if keys:
        by_name = {"k0": K0, "k1": K1, "k2": K2}
        monkeypatch.setenv("GROUNDWORK_TOKEN_KEYS", ",".join(by_name[name] for name in keys))
    done = CliRunner().invoke(tokens, ["rotate"])
    assert done.exit_code == 0, done.output
    assert f"keyring: {keyring}" in done.stderr.splitlines()
    first = keyring[:2]
    assert done.stdout == f"0 users have tokens, all encrypted with key '{first}' (0 changed){advice}\n"


def test_what_cannot_be_read_is_named_and_kept(opened: Any, database: Database) -> None:
    data = opened(K1)
    users = [data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in (1, 2)]
    for user in users:
        data.users.set_tokens(user.id, access_token="a")
    database.psql(f"UPDATE groundwork.users SET access_token = '\\x0102' WHERE id = {users[0].id}")
    done = rotate_tokens(database.url("app"), "none", TokenKeys.of(f"{K2},{K1}"), 500, lambda line: None)
    assert done.rotated == 1
    assert len(done.unreadable) == 1
    assert f"row {users[0].id}" in done.unreadable[0]


@promise("a token that is set during a key rotation is kept")
def test_a_token_set_during_a_rotation_is_kept(opened: Any, database: Database) -> None:
    data, both = opened(K1), TokenKeys.of(f"{K2},{K1}")
    users = [data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in range(1, 40)]
    for user in users:
        data.users.set_tokens(user.id, access_token="first")
    latest: dict[int, str] = {}
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            user = users[n % len(users)]
            data.users.set_tokens(user.id, access_token=f"second{n}")
            latest[user.id] = f"second{n}"
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            rotate_tokens(database.url("app"), "none", both, 7, lambda line: None)
    finally:
        stop.set()
        writer.join()
    reader = opened(f"{K2},{K1}")
    assert {u.id: reader.users.tokens(u.id).access for u in users} == {
        u.id: latest.get(u.id, "first") for u in users
    }
    rotate_tokens(database.url("app"), "none", both, 7, lambda line: None)
    assert set(_keys_used(database)) == {"k2"}


@promise("a token that is set during a key rotation is kept", control=True)
def test_without_the_comparison_a_rotation_would_bring_an_old_token_back(opened: Any) -> None:
    """The control of the test above: read, then write what was read with the new key."""
    data, rotating = opened(K1), opened(f"{K2},{K1}")
    user = data.users.add(ADA)
    data.users.set_tokens(user.id, access_token="first")
    read = rotating.users.tokens(user.id).access
    data.users.set_tokens(user.id, access_token="second")
    rotating.users.set_tokens(user.id, access_token=read)
    assert rotating.users.tokens(user.id).access == "first"


@promise("the next key rotation completes a killed one")
def test_a_killed_rotation_is_completed_by_the_next_one(opened: Any, database: Database) -> None:
    data = opened(K1)
    for n in range(1, 400):
        user = data.users.add(NewUser(github_id=n, username=f"u{n}"))
        data.users.set_tokens(user.id, access_token=f"a{user.id}")
    environment = os.environ | {"DATABASE_URL": database.url("app"), "GROUNDWORK_TOKEN_KEYS": f"{K2},{K1}"}
    command = [sys.executable, "-m", "ops.cli", "tokens", "rotate", "--batch-size", "5"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    # After the first batch.
    while "checked" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert set(_keys_used(database)) == {"k1", "k2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "399 users have tokens, all encrypted with key 'k2'" in done.stdout
    assert "no token in this database needs the other keys (k1)" in done.stdout
    again = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == {
        "key": "k2", "users": 399, "changed": 0, "unreadable": 0, "complete": True,
    }  # fmt: skip
    assert set(_keys_used(database)) == {"k2"}


@promise("tokens never enter Redis, logs, dumps or tracebacks in clear")
def test_no_token_is_found_in_clear(
    opened: Any, database: Database, redis_as_ops: redis.Redis, namespace: str
) -> None:
    canary = f"gho_{secrets.token_hex(20)}"
    data = opened(K1)
    user = data.users.add(NewUser(github_id=7, username="planted-canary"))
    data.users.set_tokens(user.id, access_token=canary, refresh_token=canary)
    assert data.users.tokens(user.id).access == canary
    for _ in range(2):
        data.users.get(user.id)
        time.sleep(0.1)
    places = {
        "redis": b"".join(
            redis_as_ops.get(key) or b"" for key in redis_as_ops.scan_iter(f"gw:{namespace}:*")
        ),
        "rows": database.psql("SELECT row_to_json(u) FROM groundwork.users u").encode(),
        "hex of the columns": database.psql(
            "SELECT encode(access_token, 'hex') FROM groundwork.users"
        ).encode(),
        "record": repr(data.users.get(user.id)).encode(),
    }
    forms = [canary.encode(), canary.encode().hex().encode(), base64.b64encode(canary.encode())[:-4]]
    for place, raw in places.items():
        assert not any(form in raw for form in forms), place
    # The control: text that is not a token is found everywhere except in the ciphertext.
    for place in ("redis", "rows", "record"):
        assert b"planted-canary" in places[place], place


@promise("`up` deletes no key that users' tokens are encrypted with")
def test_a_key_that_tokens_need_is_not_lost(database: Database, opened: Any) -> None:
    url = database.url("app")
    refuse_to_lose_keys("dev", lambda: url, ["k1", "k2"], ["k3"])
    data = opened(f"{K2},{K1}")
    data.users.set_tokens(data.users.add(ADA).id, refresh_token="r")
    refuse_to_lose_keys("dev", lambda: url, ["k1", "k2"], ["k3", "k2"])
    with pytest.raises(
        OpsError,
        match="cannot remove key k2 from groundwork:tokenKeys: users' tokens are still encrypted with it",
    ) as refused:
        refuse_to_lose_keys("dev", lambda: url, ["k1", "k2"], ["k3"])
    assert refused.value.exit_code == Exit.REFUSED
    # Not even if the server does not answer.
    with pytest.raises(OpsError, match="cannot check whether users' tokens still need key k1 ") as refused:
        refuse_to_lose_keys("dev", lambda: "postgresql://app@127.0.0.1:1/none", ["k1", "k2"], ["k2"])
    assert refused.value.exit_code == Exit.REFUSED


def test_a_database_without_a_table_of_tokens_needs_no_key(empty_database: Database) -> None:
    """As of an application with its own migrations."""
    url = empty_database.url("app")
    refuse_to_lose_keys("dev", lambda: url, ["k1"], ["k2"])
    empty_database.psql("CREATE TABLE groundwork.users (id bigint, access_token text, refresh_token text)")
    refuse_to_lose_keys("dev", lambda: url, ["k1"], ["k2"])
