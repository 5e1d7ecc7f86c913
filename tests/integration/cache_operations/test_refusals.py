"""Rejected and failing commands: one line of error, the documented exit code, and the cache is unchanged."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import redis

from cache.keys import epoch_nonce
from infra.outputs import address_of
from ops.errors import Exit
from ops.stack import connections
from tests import containers
from tests.containers import Server
from tests.integration.cache_operations.conftest import Operate
from tests.promises import promise

FLUSHES = [("--all",), ("--entity", "user"), ("--pattern", "*")]
COMMANDS = [
    ("flush", "--all", "--yes"),
    ("stats",),
    ("get", "user", "1"),
    ("keys",),
    ("flush", "--all", "--dry-run"),
    ("warm",),
]
every_flush = pytest.mark.parametrize("scope", FLUSHES, ids=" ".join)
every_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@pytest.fixture
def namespace() -> str:
    """A unique namespace whose name looks like production."""
    return f"prod-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def nonce(redis_as_ops: redis.Redis, namespace: str) -> Iterator[None]:
    """Create the namespace's nonce and an entry, and check that both are unchanged afterwards."""
    redis_as_ops.set(epoch_nonce(namespace), "as it was", ex=600)
    redis_as_ops.set(f"gw:{namespace}:v1:user:{{1}}", "as it was", ex=600)
    yield
    assert redis_as_ops.get(epoch_nonce(namespace)) == b"as it was"
    assert redis_as_ops.get(f"gw:{namespace}:v1:user:{{1}}") == b"as it was"


@pytest.fixture(scope="module")
def expired(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(certificate_days=-1) as server:
        yield server


@promise("production is not flushed unless its name is given")
@every_flush
@pytest.mark.parametrize(
    "given", [(), ("--yes",), ("--confirm", "NAME"), ("--yes", "--confirm", "prod")], ids=" ".join
)
def test_production_is_not_flushed_without_its_name(
    operate: Operate, nonce: None, namespace: str, scope: tuple[str, ...], given: tuple[str, ...]
) -> None:
    words = [word.replace("NAME", namespace) for word in given]
    outcome = operate("flush", *scope, *words)
    assert outcome.code == Exit.REFUSED
    assert f"--confirm {namespace}" in outcome.error


@every_flush
def test_production_is_flushed_by_its_name(
    operate: Operate, redis_as_ops: redis.Redis, namespace: str, scope: tuple[str, ...]
) -> None:
    redis_as_ops.set(f"gw:{namespace}:v1:user:{{1}}", "x", ex=600)
    assert operate("flush", *scope, "--yes", "--confirm", namespace).code == Exit.FINE
    nonce = redis_as_ops.get(epoch_nonce(namespace))
    assert nonce is not None or not redis_as_ops.exists(f"gw:{namespace}:v1:user:{{1}}")


@every_flush
def test_without_a_terminal_consent_is_an_option(
    operate: Operate, scope: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", "other")
    outcome = operate("flush", *scope)
    assert outcome.code == Exit.REFUSED
    assert "--yes" in outcome.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("flush", "--yes"),
        ("flush", "--all", "--entity", "user", "--yes"),
        ("flush", "--all", "--rate", "0"),
        ("flush", "--entity", "usr", "--yes"),
        ("flush", "--pattern", "v1:user", "--yes"),
        ("flush", "--pattern", "gw:elsewhere:v1:user:{1}", "--yes"),
        ("flush", "--pattern", "*:user_feed:{1}:ab*", "--yes"),
        ("flush", "--all", "--yes", "--stack", "dev"),
        ("get", "usr", "1"),
        ("get", "user", "ada"),
        ("keys", "--pattern", "x"),
        ("keys", "--entity", "user", "--pattern", "*"),
        ("stats", "--sample", "0"),
        ("flush", "--all", "--warm", "0", "--yes"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_exits_with_2(operate: Operate, nonce: None, arguments: tuple[str, ...]) -> None:
    assert operate(*arguments).code == Exit.USAGE


@every_command
def test_an_unreachable_redis_exits_with_6(
    operate: Operate, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://ops:secret@localhost:1/0")
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", "other")
    outcome = operate(*command)
    assert outcome.code == Exit.UNREACHABLE
    assert "cannot reach Redis at localhost:1" in outcome.error
    assert "secret" not in outcome.error


@every_command
def test_a_wrong_password_exits_with_6_and_is_not_shown(
    operate: Operate, redis_server: Server, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    right = redis_server.passwords["ops"]
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url("ops").replace(right, "mistyped"))
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", "other")
    outcome = operate(*command)
    assert outcome.code == Exit.UNREACHABLE
    assert "rejects the login of user 'ops'" in outcome.error
    assert "mistyped" not in outcome.error


@every_command
def test_an_expired_certificate_exits_with_6_and_is_named(
    operate: Operate, expired: Server, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("REDIS_URL", expired.redis_url("ops"))
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", "other")
    outcome = operate(*command)
    assert outcome.code == Exit.UNREACHABLE
    assert "certificate has expired" in outcome.error


def test_a_user_without_permission_learns_which_user_has_it(
    operate: Operate, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url("app"))
    outcome = operate("keys")
    assert outcome.code == Exit.ERROR
    assert "user ops" in outcome.error


def _stack_with(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    def environment_of(role: str, stack: str) -> dict[str, str]:
        assert (role, stack) == ("ops", "dev")
        return {"REDIS_URL": redis_url}

    monkeypatch.setattr(connections, "environment_of", environment_of)
    address = address_of(redis_url)
    monkeypatch.setattr(
        connections, "stack_of_redis", lambda addresses: "dev" if address in addresses else None
    )


@promise("production is not flushed unless its name is given")
def test_production_is_recognized_by_the_stack_of_redis_url(
    operate: Operate, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", f"ordinary-{uuid.uuid4().hex[:12]}")
    address = address_of(redis_server.redis_url("ops"))
    monkeypatch.setattr(connections, "stack_of_redis", {frozenset([address]): "prod-eu"}.get)
    outcome = operate("flush", "--all", "--yes")
    assert outcome.code == Exit.REFUSED
    assert "pass --yes --confirm prod-eu" in outcome.error
    assert operate("flush", "--all", "--yes", "--confirm", "prod-eu").code == Exit.FINE


@pytest.mark.parametrize("user", ["app", "monitor"])
@pytest.mark.parametrize(
    "command", [("keys",), ("stats", "--metrics-url", "http://127.0.0.1:9"), ("get", "user", "1")]
)
def test_the_stacks_user_ops_is_used_if_the_environment_has_another_one_of_the_same_redis(
    operate: Operate,
    redis_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url(user))
    _stack_with(monkeypatch, redis_server.redis_url("ops"))
    outcome = operate(*command)
    assert outcome.code == Exit.FINE, outcome.error


def test_the_stacks_user_is_not_used_for_another_redis(
    operate: Operate, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url("app"))
    _stack_with(monkeypatch, "rediss://ops:secret@localhost:9/0")
    assert operate("keys").code == Exit.ERROR


@pytest.mark.parametrize("url", ["http://localhost", "rediss://localhost:99999", "rediss://", "x"])
def test_an_invalid_connection_string_exits_with_2(
    operate: Operate, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert operate("stats").code == Exit.USAGE


def test_warming_without_a_database_exits_with_6_and_the_flush_is_done(
    operate: Operate, redis_as_ops: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", "other")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@localhost:1/groundwork")
    outcome = operate("flush", "--all", "--yes", "--warm", "5")
    assert outcome.code == Exit.UNREACHABLE
    assert "was not warmed" in outcome.error
    assert redis_as_ops.get(epoch_nonce("other")) is not None


def test_unknown_stack_exits_with_2_and_names_the_existing_ones(
    operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL")
    outcome = operate("stats", "--stack", "nope")
    assert outcome.code == Exit.USAGE
    assert "stacks: dev" in outcome.error
