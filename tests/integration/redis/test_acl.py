"""The permissions of the Redis users, for all commands of the server and for keys of others."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from infra.spec import elasticache, redis_acl
from tests.cases import in_case
from tests.containers import Server
from tests.integration.redis.conftest import BEFORE_LOGIN, NO_RETRY, REFUSED_IN_SCRIPT, As, allowlist
from tests.promises import promise

OWN_KEYS = ["gw:{t}:x", "gwl:{t}:x"]
FOREIGN_KEYS = ["x", "gwx:1", "GW:1", "gw", " gw:1", "session:1"]


def permitted(administrator: Any, commands: dict[str, int], user: str) -> set[str]:
    """Return the commands that the server allows `user` to call with a key of the application."""
    pipeline = administrator.pipeline(transaction=False)
    for name, arity in commands.items():
        words = name.split("|")
        pipeline.execute_command("ACL", "DRYRUN", user, *words, *["gw:x"] * (arity - len(words)))
    answers = pipeline.execute(raise_on_error=False)
    refused = b"no permissions to run"
    errors = [answer for answer in answers if not isinstance(answer, bytes)]
    assert not errors
    return {name for name, answer in zip(commands, answers, strict=True) if refused not in answer}


@promise("a user may run only its own commands, and only on the application's keys")
def test_of_all_commands_of_the_server_a_user_may_exactly_its_own(
    administrator: Any, commands: dict[str, int]
) -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            assert permitted(administrator, commands, user.name) == allowlist(user, commands)


def test_every_command_of_the_specification_exists_on_the_server(commands: dict[str, int]) -> None:
    for user in redis_acl.LOCAL_USERS:
        with in_case(user):
            assert set(user.commands) <= set(commands)


def test_the_default_user_may_nothing(administrator: Any, commands: dict[str, int]) -> None:
    assert permitted(administrator, commands, "default") == BEFORE_LOGIN


@promise("a user may run only its own commands, and only on the application's keys", control=True)
def test_the_walk_sees_the_difference_of_one_command(administrator: Any, commands: dict[str, int]) -> None:
    rules = redis_acl.MONITOR.access_string().split()
    administrator.execute_command("ACL", "SETUSER", "widened", *rules, "+keys")
    widened = permitted(administrator, commands, "widened")
    assert widened - allowlist(redis_acl.MONITOR, commands) == {"keys"}


def test_the_walk_covers_the_whole_server(administrator: Any, commands: dict[str, int]) -> None:
    assert len(commands) > 300
    assert permitted(administrator, commands, "administrator") == set(commands)


@pytest.mark.parametrize("user", ["app", "ops"])
@pytest.mark.parametrize("key", OWN_KEYS)
def test_a_user_reads_and_writes_the_applications_keys(
    as_user: As, namespace: str, user: str, key: str
) -> None:
    client, key = as_user(user), key.format(t=namespace)
    assert client.set(key, "1")
    assert client.get(key) == b"1"
    assert client.unlink(key) == 1


@promise("a user may run only its own commands, and only on the application's keys")
def test_a_key_that_is_not_the_applications_is_refused(as_user: As) -> None:
    for user in ("app", "ops"):
        client = as_user(user)
        for key in FOREIGN_KEYS:
            for name, *values in (("GET",), ("SET", "1"), ("DEL",), ("UNLINK",), ("EXISTS",), ("PTTL",)):
                with in_case(user, key, name), pytest.raises(NoPermissionError, match="key"):
                    client.execute_command(name, key, *values)


def test_one_foreign_key_among_own_ones_refuses_the_whole_call(as_user: As) -> None:
    with pytest.raises(NoPermissionError):
        as_user("app").mget("gw:1", "x", "gw:2")


@promise("a script has no more permissions than its caller")
def test_a_script_has_no_more_permissions_than_its_caller(as_user: As) -> None:
    cases: list[str] = [
        "return redis.call('GET', 'x')",
        "return redis.call('FLUSHALL')",
        "return redis.call('KEYS', '*')",
    ]
    for script in cases:
        with in_case(script):
            app = as_user("app")
            digest = app.script_load(script)
            with pytest.raises(ResponseError, match=REFUSED_IN_SCRIPT):
                app.evalsha(digest, 0)


def test_a_script_works_on_the_callers_keys(as_user: As, namespace: str) -> None:
    app = as_user("app")
    digest = app.script_load("return redis.call('INCR', KEYS[1])")
    assert app.evalsha(digest, 1, f"gw:{namespace}:n") == 1


def test_monitor_reads_no_key_and_sees_the_server(as_user: As) -> None:
    monitor = as_user("monitor")
    with pytest.raises(NoPermissionError):
        monitor.get("gw:x")
    assert monitor.info("server")["redis_version"]


@promise("a dangerous command is refused for every user")
def test_a_dangerous_command_is_actually_refused(as_user: As) -> None:
    commands: list[tuple[str, ...]] = [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("EVAL", "return 1", "0"),
        ("CONFIG", "SET", "maxmemory", "0"),
        ("SHUTDOWN",),
        ("ACL", "SETUSER", "x"),
        ("SAVE",),
        ("PUBLISH", "gw:x", "1"),
        ("REPLICAOF", "NO", "ONE"),
        ("MONITOR",),
    ]
    for user in ("app", "ops", "monitor"):
        client = as_user(user)
        for command in commands:
            with in_case(user, command), pytest.raises(NoPermissionError):
                client.execute_command(*command)


@promise("Redis accepts nobody without TLS and a login")
def test_a_client_without_a_login_is_refused(redis_server: Server) -> None:
    with redis.Redis(
        port=redis_server.port, ssl=True, ssl_ca_certs=str(redis_server.ca_file), driver_info=None,
        protocol=2, retry=NO_RETRY,
    ) as anonymous, pytest.raises(AuthenticationError, match="Authentication required"):  # fmt: skip
        anonymous.ping()


@promise("the user `default` is disabled")
def test_the_default_user_cannot_log_in(as_user: As) -> None:
    for password in ("", "default", "x"):
        with in_case(password):
            with pytest.raises(AuthenticationError):
                as_user("monitor").execute_command("AUTH", "default", password)


def test_another_users_password_is_refused(redis_server: Server, as_user: As) -> None:
    with pytest.raises(AuthenticationError):
        as_user("monitor").execute_command("AUTH", "ops", redis_server.passwords["app"])
    assert as_user("monitor").execute_command("AUTH", "ops", redis_server.passwords["ops"])


@promise("a dangerous command is refused for every user")
def test_dangerous_commands_are_off_even_for_a_user_with_all_permissions(administrator: Any) -> None:
    cases: list[tuple[str, tuple[str, ...], str]] = [
        ("debug", ("DEBUG", "SLEEP", "0"), "DEBUG command not allowed"),
        ("module", ("MODULE", "LOAD", "/tmp/x.so"), "MODULE command not allowed"),
        ("protected", ("CONFIG", "SET", "dir", "/tmp"), "protected config"),
        ("immutable", ("CONFIG", "SET", "enable-debug-command", "yes"), "immutable config"),
    ]
    for name, command, message in cases:
        with in_case(name):
            with pytest.raises(ResponseError, match=message):
                administrator.execute_command(*command)


# AWS returns a user's rules in the form that Redis gives them (AWS's examples agree; no account has confirmed it).
# Rules in another form would be a permanent difference.
@promise("no parameter is sent that AWS returns in another form")
@pytest.mark.parametrize("rules", [elasticache.DEFAULT_ACCESS, *elasticache.access_strings().values()])
def test_the_rules_for_elasticache_have_the_form_of_redis(administrator: Any, rules: str) -> None:
    administrator.execute_command("ACL", "SETUSER", "of-elasticache", "reset", *rules.split())
    try:
        (line,) = [
            line.decode()
            for line in administrator.execute_command("ACL", "LIST")
            if line.startswith(b"user of-elasticache ")
        ]
    finally:
        administrator.execute_command("ACL", "DELUSER", "of-elasticache")
    # sanitize-payload is Redis's default, and not a rule of ElastiCache. The commands are in the order of a hash table.
    found, given = [word for word in line.split()[2:] if word != "sanitize-payload"], rules.split()
    assert sorted(found) == sorted(given)
    assert found[: found.index("-@all")] == given[: given.index("-@all")]
