"""`groundwork cluster` for Redis: what the servers and Sentinels report, what is wrong with it, and a switchover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from infra.docker import redis_members as members
from infra.docker.engine import DockerError
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from ops.errors import Exit, OpsError
from ops.stack import redis_cluster
from ops.stack.redis_cluster import RedisCluster, problems, render
from tests.promises import promise

ADDRESSES = {name: f"10.0.0.{n}" for n, name in enumerate((*SERVER_NAMES, *SENTINEL_NAMES))}


class Redis:
    """Three servers and three Sentinels. A failover promotes the server with the lowest priority."""

    def __init__(self) -> None:
        self.primary = "redis"
        self.states = dict.fromkeys(ADDRESSES, "running")
        self.linked = dict.fromkeys(SERVER_NAMES, "up")
        self.priorities = dict.fromkeys(SERVER_NAMES, 100)
        self.quorum = "OK 3 usable Sentinels"
        self.answer = "OK"
        self.chosen = ""
        # What an ill Sentinel answers instead, by the first two words of the command. With None it does not answer.
        self.ill: dict[str, dict[str, str | None]] = {}
        self.asked: list[str] = []
        self.failovers: list[dict[str, int]] = []

    def inspect(self, _kind: str, *names: str) -> list[dict[str, Any]]:
        return [
            {
                "Name": f"/{name}",
                "State": {"Status": self.states[name.removeprefix("gw-")]},
                "NetworkSettings": {"Networks": {"data": {"IPAddress": ADDRESSES[name.removeprefix("gw-")]}}},
            }
            for name in names
            if name.removeprefix("gw-") in self.states
        ]

    def docker(self, _exec: str, container: str, *command: str, **_: Any) -> str:
        name = container.removeprefix("gw-")
        if self.states[name] != "running":
            raise DockerError(f"container {container} is {self.states[name]}")
        asked = command[-1].rpartition("echo '")[2].partition("'")[0]
        if name in SENTINEL_NAMES:
            words = " ".join(asked.split()[:2])
            self.asked.append(f"{name} {words.split()[1]}")
            if words in self.ill.get(name, {}):
                if (answer := self.ill[name][words]) is None:
                    raise DockerError(f"{name} does not answer")
                return f"OK\n{answer}\n"
        return f"OK\n{self._answer(name, asked)}\n"

    def _answer(self, name: str, asked: str) -> str:
        match asked.split():
            case ["INFO", "replication"] if name == self.primary:
                good = sum(
                    self.linked[n] == "up"
                    for n in SERVER_NAMES
                    if n != name and self.states.get(n) == "running"
                )
                return f"role:master\r\nmin_slaves_good_slaves:{good}\r\nmaster_repl_offset:900"
            case ["INFO", "replication"]:
                return f"role:slave\r\nmaster_link_status:{self.linked[name]}\r\nslave_repl_offset:870"
            case ["SENTINEL", "CKQUORUM", _]:
                return self.quorum
            case ["SENTINEL", "REPLICAS", _]:
                replicas = [n for n in SERVER_NAMES if n != self.primary]
                return "\n".join(
                    f"name\n{n}\nip\n{ADDRESSES[n]}\nflags\nslave\nslave-priority\n{self.priorities[n]}"
                    for n in replicas
                )
            case ["CONFIG", "SET", "replica-priority", value]:
                self.priorities[name] = int(value)
                return "OK"
            case ["SENTINEL", "FAILOVER", _]:
                if self.answer == "OK":
                    self.failovers.append(dict(self.priorities))
                    self.primary = self.chosen or min(
                        (n for n in SERVER_NAMES if n != self.primary), key=self.priorities.__getitem__
                    )
                return self.answer
        raise AssertionError(asked)


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Redis:
    redis = Redis()
    monkeypatch.setattr(members, "inspect", redis.inspect)
    monkeypatch.setattr(members, "docker", redis.docker)
    monkeypatch.setattr(redis_cluster, "_WAIT_SECONDS", 0)
    return redis


@pytest.fixture
def stack(redis: Redis) -> RedisCluster:
    return RedisCluster("dev", "gw-redis")


def _quiet(_: str) -> None: ...


def test_each_server_and_sentinel_has_its_role_state_and_lag(stack: RedisCluster) -> None:
    found = stack.members()
    assert [(row.name, row.role, row.state, row.lag_bytes) for row in found] == [
        ("redis", "primary", "running", None),
        ("redis-2", "replica", "streaming", 30),
        ("redis-3", "replica", "streaming", 30),
        *((name, "sentinel", "running", None) for name in SENTINEL_NAMES),
    ]
    assert problems(found) == []
    assert render(found)[2].split() == ["redis-2", "replica", "streaming", "30B", "gw-redis-2"]
    assert found[1].as_json()["lagBytes"] == 30


def _without(states: Mapping[str, str]) -> dict[str, Any]:
    return {"states": dict.fromkeys(ADDRESSES, "running") | dict(states)}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (_without({"redis-3": "exited"}), ["redis-3 is exited"]),
        (_without({"redis": "paused"}), ["there is no primary: the cache is off", "redis is paused"]),
        ({"linked": {"redis": "up", "redis-2": "up", "redis-3": "down"}}, ["redis-3 is without its primary"]),
        (
            {"linked": dict.fromkeys(SERVER_NAMES, "down")},
            [
                "there is no primary: the cache is off",
                "redis is without replicas",
                "redis-2 is without its primary",
                "redis-3 is without its primary",
            ],
        ),
        (_without({"sentinel-2": "exited"}), ["sentinel-2 is exited"]),
        (
            {"quorum": "NOQUORUM 1 usable Sentinels"},
            [f"{name} is without a quorum" for name in SENTINEL_NAMES],
        ),
    ],
)
def test_what_is_wrong_is_reported(
    stack: RedisCluster, redis: Redis, changed: dict[str, Any], expected: list[str]
) -> None:
    vars(redis).update(changed)
    assert problems(stack.members()) == expected


def test_a_removed_container_is_missing(stack: RedisCluster, redis: Redis) -> None:
    del redis.states["redis-2"], redis.states["sentinel-3"]
    assert problems(stack.members()) == ["redis-2 is missing", "sentinel-3 is missing"]


@promise("a switchover of Redis moves the primary once, to the named server")
@pytest.mark.parametrize(("to", "new"), [(None, "redis-2"), ("redis-3", "redis-3"), ("redis-2", "redis-2")])
def test_a_switchover_moves_the_primary_once_to_the_named_server(
    stack: RedisCluster, redis: Redis, to: str | None, new: str
) -> None:
    assert stack.switch_over(to, _quiet) == ("redis", new)
    assert redis.primary == new
    assert len(redis.failovers) == 1
    # The preference ends with the switchover.
    assert set(redis.priorities.values()) == {100}
    # A preference that lasts would promote this server at every failure.
    assert redis.failovers[0] == dict.fromkeys(SERVER_NAMES, 100) | ({to: 1} if to else {})


def test_a_switchover_to_the_primary_does_nothing(stack: RedisCluster, redis: Redis) -> None:
    assert stack.switch_over("redis", _quiet) == ("redis", "redis")
    assert redis.failovers == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"linked": {"redis": "up", "redis-2": "down", "redis-3": "up"}},
            "redis-2 does not follow the primary",
        ),
        (_without({"redis": "paused"}), "there is no primary"),
        ({"answer": "NOGOODSLAVE No suitable replica to promote"}, "NOGOODSLAVE"),
        (_without(dict.fromkeys(SENTINEL_NAMES, "exited")), "no Sentinel answers: none is running"),
    ],
)
def test_a_switchover_that_is_not_possible_is_one_line(
    stack: RedisCluster, redis: Redis, changed: dict[str, Any], reason: str
) -> None:
    vars(redis).update(changed)
    with pytest.raises(OpsError, match=reason) as refused:
        stack.switch_over("redis-3", _quiet)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(refused.value)
    assert set(redis.priorities.values()) == {100}


@pytest.mark.parametrize("gone", [True, False], ids=["removed", "stopped"])
def test_a_switchover_does_not_wait_for_a_server_that_does_not_run(
    stack: RedisCluster, redis: Redis, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr(redis_cluster, "_WAIT_SECONDS", 1000)
    monkeypatch.setattr(redis_cluster.time, "sleep", lambda _: pytest.fail("it waits"))
    redis.states["redis-3"] = "exited"
    if gone:
        del redis.states["redis-3"]
    with pytest.raises(OpsError, match="redis-3 does not follow the primary"):
        stack.switch_over(None, _quiet)


def test_a_switchover_after_which_a_server_does_not_follow_says_that_the_primary_has_moved(
    stack: RedisCluster, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote = redis_cluster.ask_for_failover

    def promote_and_stop(*arguments: Any) -> str:
        answer = promote(*arguments)
        redis.states["redis"] = "exited"
        return answer

    monkeypatch.setattr(redis_cluster, "ask_for_failover", promote_and_stop)
    with pytest.raises(
        OpsError, match=r"^moved the primary .* from redis to redis-2, .*: redis does not follow"
    ):
        stack.switch_over(None, _quiet)


def _lose_the_primary(redis: Redis) -> None:
    redis.states |= {"redis": "exited", "sentinel-1": "exited", "sentinel-2": "exited"}


@pytest.mark.parametrize(("to", "new"), [(None, "redis-2"), ("redis-3", "redis-3")])
def test_a_failover_needs_one_sentinel(stack: RedisCluster, redis: Redis, to: str | None, new: str) -> None:
    _lose_the_primary(redis)
    stack.require_no_primary()
    assert stack.fail_over(to) == new
    assert set(redis.priorities.values()) == {100}


def test_a_failover_is_refused_while_there_is_a_primary(stack: RedisCluster) -> None:
    with pytest.raises(OpsError, match="redis is the primary of the Redis of stack 'dev'") as refused:
        stack.require_no_primary()
    assert refused.value.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("states", "to", "reason"),
    [
        ({"sentinel-3": "exited"}, None, "no Sentinel answers"),
        ({}, "redis", "redis of the Redis of stack 'dev' does not run"),
        ({"redis-3": "exited"}, None, "no primary that a replica follows"),
    ],
)
def test_a_failover_that_is_not_possible_is_one_line(
    stack: RedisCluster, redis: Redis, states: dict[str, str], to: str | None, reason: str
) -> None:
    _lose_the_primary(redis)
    redis.states |= states
    with pytest.raises(OpsError, match=reason) as refused:
        stack.fail_over(to)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(refused.value)


def test_a_switchover_names_the_server_that_became_the_primary_instead(
    stack: RedisCluster, redis: Redis
) -> None:
    redis.chosen = "redis-2"
    with pytest.raises(
        OpsError, match=r"redis-2 became the primary of .* instead of redis-3; see"
    ) as refused:
        stack.switch_over("redis-3", _quiet)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert set(redis.priorities.values()) == {100}


def test_a_failover_names_the_server_that_became_the_primary_instead(
    stack: RedisCluster, redis: Redis
) -> None:
    _lose_the_primary(redis)
    redis.chosen = "redis-2"
    with pytest.raises(
        OpsError, match=r"redis-2 became the primary of .* instead of redis-3; see"
    ) as refused:
        stack.fail_over("redis-3")
    assert refused.value.exit_code == Exit.UNREACHABLE


_NO_QUORUM = "NOQUORUM 1 usable Sentinels"
_NO_REPLICA = "NOGOODSLAVE No suitable replica to promote"
_ISOLATED: dict[str, str | None] = {
    "SENTINEL CKQUORUM": _NO_QUORUM,
    "SENTINEL REPLICAS": "",
    "SENTINEL FAILOVER": _NO_REPLICA,
}
_UNREACHED = f"name\nredis-3\nip\n{ADDRESSES['redis-3']}\nflags\ns_down,slave,disconnected\nslave-priority\n1"


@pytest.mark.parametrize("to", [None, "redis-3"])
@pytest.mark.parametrize(
    "ill",
    [
        _ISOLATED,
        {"SENTINEL CKQUORUM": None},
        {"SENTINEL CKQUORUM": "ERR No such master with that name", "SENTINEL REPLICAS": ""},
        {"SENTINEL REPLICAS": "", "SENTINEL FAILOVER": _NO_REPLICA},
        {"SENTINEL REPLICAS": _UNREACHED, "SENTINEL FAILOVER": _NO_REPLICA},
        {"SENTINEL REPLICAS": None, "SENTINEL FAILOVER": None},
        {"SENTINEL FAILOVER": "NOPERM no permissions"},
    ],
    ids=["isolated", "silent", "forgot", "without replicas", "replica is down", "dies", "refuses"],
)
def test_any_one_sentinel_may_fail_during_a_switchover(
    stack: RedisCluster, redis: Redis, ill: dict[str, str | None], to: str | None
) -> None:
    for name in SENTINEL_NAMES:
        redis.ill = {name: ill}
        redis.primary, redis.asked = "redis", []
        assert stack.switch_over(to, _quiet) == ("redis", to or "redis-2"), name
        # The one that fails over is the one that knew the priority.
        (*_, before, last) = redis.asked
        assert before == last.replace("FAILOVER", "REPLICAS" if to else "CKQUORUM")
    assert len(redis.failovers) == len(SENTINEL_NAMES)


def test_a_healthy_sentinel_is_the_only_one_that_is_asked(stack: RedisCluster, redis: Redis) -> None:
    stack.switch_over(None, _quiet)
    assert redis.asked == ["sentinel-1 CKQUORUM", "sentinel-1 FAILOVER"]


def test_a_sentinel_without_a_quorum_is_asked_only_if_there_is_no_other(
    stack: RedisCluster, redis: Redis
) -> None:
    redis.ill = {"sentinel-1": {"SENTINEL CKQUORUM": _NO_QUORUM}}
    stack.switch_over(None, _quiet)
    assert redis.asked[-1] == "sentinel-2 FAILOVER"
    _lose_the_primary(redis)
    redis.primary = "redis"
    redis.ill = {"sentinel-3": {"SENTINEL CKQUORUM": _NO_QUORUM}}
    assert stack.fail_over(None) == "redis-2"


def test_a_failover_in_progress_is_not_joined_by_another(stack: RedisCluster, redis: Redis) -> None:
    redis.ill = {"sentinel-1": {"SENTINEL FAILOVER": "INPROG Failover already in progress"}}
    with pytest.raises(OpsError, match=r"refuses to move the primary .*: INPROG"):
        stack.switch_over(None, _quiet)
    assert redis.failovers == []
