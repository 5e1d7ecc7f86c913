"""What a user could try with the commands that it has: other users' permissions, secrets, and the server's time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    ExecAbortError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from infra.spec import redis_acl
from tests import containers
from tests.containers import Server, wait_until
from tests.integration.redis.conftest import NO_RETRY, REFUSED_IN_SCRIPT, client_of
from tests.promises import promise

VALUE = "the value of a cached record"
_VIEWS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ops": (
        ("SLOWLOG", "GET", "-1"), ("CONFIG", "GET", "*"), ("CLIENT", "LIST"), ("CLIENT", "INFO"),
        ("INFO", "everything"), ("LATENCY", "LATEST"), ("LATENCY", "DOCTOR"), ("ACL", "LIST"), ("ACL", "WHOAMI"),
    ),
    "monitor": (("INFO", "everything"), ("CLIENT", "LIST"), ("LATENCY", "LATEST"), ("LATENCY", "HISTORY", "command")),
}  # fmt: skip
_ENDLESS = "while true do end"


@pytest.fixture(scope="module")
def watchful(docker_engine: None) -> Iterator[Server]:
    """A server that records every command in its slow log and every delay, and reports busy scripts early."""
    settings = {"slowlog-log-slower-than": "0", "slowlog-max-len": "1000", "latency-monitor-threshold": "1"}
    with containers.redis_server(
        administrator=True, extra_settings=settings | {"busy-reply-threshold": "100"}
    ) as server:
        yield server


def shown(server: Server, user: str) -> dict[str, str]:
    """Return what a user sees with each of its commands that show something about the server."""
    with client_of(server, user) as client:
        return {" ".join(view): repr(client.execute_command(*view)) for view in _VIEWS[user]}


@promise("no user sees another user's password")
@pytest.mark.parametrize("user", ["ops", "monitor"])
def test_no_view_of_the_server_shows_a_password(watchful: Server, user: str) -> None:
    """Logins, a changed password and a wrong one are all in the slow log, without their arguments."""
    attempted = "a password that is wrong"
    chosen = "a password that the administrator sets"
    for name in watchful.passwords:
        with client_of(watchful, name) as client:
            client.ping()
    with client_of(watchful, "administrator") as administrator:
        administrator.execute_command("ACL", "SETUSER", "temporary", "on", f">{chosen}", "+ping")
        administrator.execute_command("CONFIG", "SET", "masterauth", chosen)
        with pytest.raises(AuthenticationError):
            administrator.execute_command("AUTH", "ops", attempted)
        answers = shown(watchful, user)
        administrator.execute_command("ACL", "DELUSER", "temporary")
        administrator.execute_command("CONFIG", "SET", "masterauth", "")
    for secret in (*watchful.passwords.values(), attempted):
        assert not [view for view, answer in answers.items() if secret in answer]
    # A password that somebody sets in the configuration is shown. groundwork sets none there.
    assert [view for view, answer in answers.items() if chosen in answer] == (
        ["CONFIG GET *"] if user == "ops" else []
    )


@promise("no user sees another user's password", control=True)
def test_the_slow_log_records_the_arguments_of_commands_without_secrets(watchful: Server) -> None:
    with client_of(watchful, "app") as app:
        app.set("gw:recorded", VALUE)
    assert VALUE in shown(watchful, "ops")["SLOWLOG GET -1"]


def test_only_ops_sees_password_hashes(watchful: Server) -> None:
    digest = hashlib.sha256(watchful.passwords["app"].encode()).hexdigest()
    assert digest in shown(watchful, "ops")["ACL LIST"]
    assert not [view for view, answer in shown(watchful, "monitor").items() if digest in answer]


@promise("monitor sees no key, no value and no argument")
def test_monitor_sees_no_key_value_or_argument(watchful: Server) -> None:
    with client_of(watchful, "app") as app:
        app.set("gw:unseen", VALUE)
        app.get("gw:unseen")
        answers = shown(watchful, "monitor")
    assert not [view for view, answer in answers.items() if "unseen" in answer or VALUE in answer]


@promise("no user sees another user's password")
def test_the_configuration_has_no_password(watchful: Server) -> None:
    with client_of(watchful, "ops") as ops:
        configuration = ops.config_get("*")
    named = {name: value for name, value in configuration.items() if "pass" in name or name.endswith("auth")}
    assert named
    assert set(named.values()) == {""}


@promise("a script has no more permissions than its caller")
@pytest.mark.parametrize("loader", ["app", "ops", "administrator"])
def test_a_script_of_another_user_runs_with_the_permissions_of_its_caller(
    watchful: Server, loader: str
) -> None:
    """A script is shared by all users: each may only what itself may, whoever loaded it."""
    with (
        client_of(watchful, loader) as owner,
        client_of(watchful, "app") as app,
        client_of(watchful, "ops") as ops,
    ):
        reads_life = owner.script_load("return redis.call('TTL', KEYS[1])")
        increments = owner.script_load("return redis.call('INCR', KEYS[1])")
        deletes_all = owner.script_load("return redis.call('FLUSHALL')")
        assert app.evalsha(increments, 1, "gw:n")
        assert ops.evalsha(reads_life, 1, "gw:n") == -1
        for client, digest, keys in ((app, reads_life, ("gw:n",)), (ops, increments, ("gw:n",)),
                                     (app, deletes_all, ()), (ops, deletes_all, ())):  # fmt: skip
            with pytest.raises(ResponseError, match=REFUSED_IN_SCRIPT):
                client.evalsha(digest, len(keys), *keys)


@promise("a script has no more permissions than its caller")
@pytest.mark.parametrize("user", ["app", "ops"])
@pytest.mark.parametrize("call", ["call", "pcall"])
@pytest.mark.parametrize(
    "words",
    ["'GET', 'x'", "'GET', ARGV[1]", "'get', 'gw' .. 'x:1'", "'SET', 'x', '1'", "'ACL', 'SETUSER', 'x'",
     "'CONFIG', 'SET', 'maxmemory', '0'", "'EVAL', 'return 1', '0'", "'SCRIPT', 'FLUSH'"],
)  # fmt: skip
def test_a_script_cannot_hide_a_forbidden_key_or_command(
    watchful: Server, user: str, call: str, words: str
) -> None:
    with client_of(watchful, user) as client:
        digest = client.script_load(f"return redis.{call}({words})")
        with pytest.raises(ResponseError, match=rf"{REFUSED_IN_SCRIPT}|not allowed from script"):
            client.evalsha(digest, 0, "x")


def test_a_monitor_with_the_digest_of_a_script_cannot_run_it(watchful: Server) -> None:
    with client_of(watchful, "app") as app, client_of(watchful, "monitor") as monitor:
        digest = app.script_load("return 1")
        with pytest.raises(NoPermissionError):
            monitor.evalsha(digest, 0)


@promise("a forbidden command in a transaction aborts the transaction")
@pytest.mark.parametrize("forbidden", [("FLUSHALL",), ("GET", "x"), ("CONFIG", "GET", "*")])
def test_a_forbidden_command_in_a_transaction_aborts_it(watchful: Server, forbidden: tuple[str, ...]) -> None:
    with client_of(watchful, "app") as app:
        app.delete("gw:queued")
        connection = app.connection_pool.make_connection()
        try:
            for words in (("MULTI",), ("SET", "gw:queued", "1")):
                connection.send_command(*words)
                connection.read_response()
            connection.send_command(*forbidden)
            with pytest.raises(NoPermissionError):
                connection.read_response()
            connection.send_command("EXEC")
            with pytest.raises(ExecAbortError):
                connection.read_response()
        finally:
            connection.disconnect()
        assert app.get("gw:queued") is None


def test_a_permission_that_was_removed_after_the_call_was_queued_is_gone_at_exec(watchful: Server) -> None:
    rules = ("on", ">p", "+multi", "+exec", "+set", "~gw:*")
    with (
        client_of(watchful, "administrator") as administrator,
        client_of(watchful, "app") as passing,
    ):
        administrator.execute_command("ACL", "SETUSER", "passing", *rules)
        connection = passing.connection_pool.make_connection()
        try:
            for words in (("AUTH", "passing", "p"), ("MULTI",), ("SET", "gw:late", "1")):
                connection.send_command(*words)
                connection.read_response()
            administrator.execute_command("ACL", "SETUSER", "passing", "-set")
            connection.send_command("EXEC")
            (answer,) = connection.read_response()
        finally:
            connection.disconnect()
            administrator.execute_command("ACL", "DELUSER", "passing")
        assert isinstance(answer, NoPermissionError)
        assert administrator.get("gw:late") is None


@promise("a user may run only its own commands, and only on the application's keys")
@pytest.mark.parametrize("user", ["app", "ops", "monitor"])
def test_a_connection_that_changes_its_user_needs_that_users_password(watchful: Server, user: str) -> None:
    with client_of(watchful, user, retry=NO_RETRY) as client:
        for other in ("administrator", "rotator", "default"):
            for words in (("AUTH", other, "x"), ("HELLO", "3", "AUTH", other, "x")):
                with pytest.raises(AuthenticationError):
                    client.execute_command(*words)
        connection = client.connection_pool.make_connection()
        try:
            # RESET makes the connection one of user `default`, which is off.
            connection.send_command("RESET")
            assert connection.read_response() == b"RESET"
            connection.send_command("PING")
            with pytest.raises(AuthenticationError):
                connection.read_response()
        finally:
            connection.disconnect()


def test_names_of_other_keys_are_visible_to_ops_and_their_values_are_not(watchful: Server) -> None:
    """SCAN has no key to check. The test states the limit that docs/security.md names."""
    with client_of(watchful, "administrator") as administrator, client_of(watchful, "ops") as ops:
        administrator.set("session:1", "x")
        assert b"session:1" in list(ops.scan_iter(count=1000))
        for words in (("GET",), ("TYPE",), ("MEMORY", "USAGE"), ("UNLINK",)):
            with pytest.raises(NoPermissionError):
                ops.execute_command(*words, "session:1")
        administrator.delete("session:1")


def test_names_of_other_keys_that_are_written_are_visible_to_app(watchful: Server) -> None:
    """CLIENT TRACKING has no key to check with BCAST. The test states the limit that docs/security.md names."""
    with client_of(watchful, "administrator") as administrator, client_of(watchful, "app", protocol=3) as app:
        connection, seen = app.connection_pool.get_connection(), []
        connection._parser.set_invalidation_push_handler(seen.append)
        connection.send_command("CLIENT", "TRACKING", "ON", "BCAST")
        assert connection.read_response() == b"OK"
        administrator.set("session:2", VALUE)
        connection.read_response(push_request=True)
        assert seen == [[b"invalidate", [b"session:2"]]]
        with pytest.raises(NoPermissionError):
            app.get("session:2")
        administrator.delete("session:2")


@promise("ops ends a script that blocks Redis")
def test_ops_ends_a_script_that_blocks_the_server(watchful: Server) -> None:
    with client_of(watchful, "app", retry=NO_RETRY) as app, ThreadPoolExecutor(1) as pool:
        digest = app.script_load(_ENDLESS)
        running = pool.submit(app.evalsha, digest, 0)
        try:
            wait_until(lambda: "BUSY" in _answer(watchful, "monitor", "DBSIZE"))
            for user in ("app", "monitor"):
                assert "no permissions" in _answer(watchful, user, "SCRIPT", "KILL")
            assert not running.done()
        finally:
            killed = _answer(watchful, "ops", "SCRIPT", "KILL")
        assert killed == "b'OK'"
        with pytest.raises(ResponseError, match="Script killed"):
            running.result(30)
    assert _answer(watchful, "monitor", "PING") == "True"


def test_no_user_but_ops_may_end_scripts_or_connections() -> None:
    ending = {"script|kill", "client|kill", "acl|load"}
    assert {user.name for user in redis_acl.LOCAL_USERS if ending & set(user.commands)} == {"ops"}


def _answer(server: Server, user: str, *words: str) -> str:
    try:
        with client_of(server, user, retry=NO_RETRY) as client:
            return str(client.execute_command(*words))
    except (RedisError, ConnectionError) as error:
        return str(error)
