"""When a Redis server may be replaced: whether its data fit, and with replicas, when the primary moves first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.docker import redis_drain
from infra.docker.engine import DockerError
from infra.docker.redis_drain import drain, shrink
from infra.docker.redis_members import primary_of
from infra.spec.errors import SettingError
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.conftest import Run
from tests.unit.infra.program import CONTAINER, Program

PRIMARY = {"role": "master", "min_slaves_good_slaves": "1"}
ALONE = {"role": "master", "min_slaves_good_slaves": "0"}
UP = {"role": "slave", "master_link_status": "up"}
COPYING = {"role": "slave", "master_link_status": "down"}


@dataclass
class Member:
    """A server or Sentinel with `data` bytes in memory."""

    is_running: bool = True
    limit: int = 100
    data: int = 50
    said: list[str] = field(default_factory=list)
    name: str = ""
    policy: str = "allkeys-lfu"
    # What the policy does not evict.
    fixed: int = 50
    loading: list[str] = field(default_factory=list)

    def info(self, _: str) -> dict[str, str]:
        if self.policy != "noeviction":
            self.data = max(min(self.data, self.limit), min(self.data, self.fixed))
        texts = {"maxmemory": self.limit, "used_memory": self.data + 7, "mem_not_counted_for_evict": 7}
        return {name: str(value) for name, value in texts.items()} | {
            "maxmemory_policy": self.policy,
            "loading": self.loading.pop() if self.loading else "0",
            "aof_enabled": "0",
        }

    def ask(self, _: Any, command: str) -> str:
        self.said.append(command)
        words = command.split()
        self.limit = int(words[words.index("maxmemory") + 1])
        self.policy = words[-1] if "maxmemory-policy" in words else self.policy
        return "OK"


@dataclass
class Servers:
    """Reports its servers' replication, one row after the other; the last row lasts."""

    rows: list[tuple[Mapping[str, str], ...]]
    members: dict[str, Member] = field(
        default_factory=lambda: {name: Member() for name in (*SERVER_NAMES, *SENTINEL_NAMES)}
    )
    seen: int = 0
    failovers: int = 0

    def replication(self, _: object) -> dict[str, Mapping[str, str]]:
        row = self.rows[min(self.seen, len(self.rows) - 1)]
        self.seen += 1
        return {name: report for name, report in zip(SERVER_NAMES, row, strict=True) if report}

    def ask_for_failover(self, _: object) -> str:
        self.failovers += 1
        return "OK"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second pass whenever the time is read."""
    seconds = iter(range(10_000))
    monkeypatch.setattr(redis_drain.time, "sleep", lambda _: None)
    monkeypatch.setattr(redis_drain.time, "monotonic", lambda: float(next(seconds)))


@pytest.fixture
def drained(clock: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    def run(servers: Servers, name: str, maxmemory: int = 100) -> bool:
        monkeypatch.setattr(redis_drain, "redis_members", lambda _: servers.members)
        monkeypatch.setattr(redis_drain, "replication", servers.replication)
        monkeypatch.setattr(redis_drain, "ask_for_failover", servers.ask_for_failover)
        return drain("gw-redis", name, maxmemory)

    return run


@pytest.mark.parametrize(
    ("name", "rows", "failovers", "looks"),
    [
        ("redis-2", [(PRIMARY, UP, UP)], 0, 1),
        ("redis-2", [(PRIMARY, UP, COPYING), (PRIMARY, UP, {}), (PRIMARY, UP, UP)], 0, 3),
        ("redis", [(PRIMARY, UP, COPYING), (PRIMARY, UP, UP), (UP, PRIMARY, UP)], 1, 3),
        (
            "redis",
            [(ALONE, UP, UP), (PRIMARY, UP, UP), (ALONE, ALONE, COPYING), (COPYING, PRIMARY, UP)],
            1,
            4,
        ),
        ("redis-3", [(COPYING, PRIMARY, COPYING), (UP, PRIMARY, COPYING)], 0, 2),
    ],
)
def test_a_server_is_replaced_when_the_others_have_the_data_and_the_primary_has_moved(
    drained: Any, name: str, rows: list[Any], failovers: int, looks: int
) -> None:
    servers = Servers(rows)
    assert drained(servers, name)
    assert (servers.failovers, servers.seen) == (failovers, looks)


def test_an_up_continues_when_the_others_do_not_become_ready(drained: Any) -> None:
    servers = Servers([(PRIMARY, UP, COPYING)])
    assert not drained(servers, "redis-2")
    assert servers.failovers == 0


@pytest.mark.parametrize(
    "missing",
    [["redis"], ["redis-2", "redis-3"], [*SENTINEL_NAMES], [*SERVER_NAMES, *SENTINEL_NAMES]],
    ids=["it does not run", "no other server", "no Sentinel", "nothing"],
)
def test_draining_does_not_wait_for_a_failover_that_cannot_happen(drained: Any, missing: list[str]) -> None:
    servers = Servers([(PRIMARY, UP, UP)])
    for name in missing:
        servers.members[name].is_running = False
    assert not drained(servers, "redis")
    assert (servers.failovers, servers.seen) == (0, 0)


def test_a_stopped_server_is_not_awaited(drained: Any) -> None:
    servers = Servers([(PRIMARY, UP, {})])
    servers.members["redis-3"].is_running = False
    assert drained(servers, "redis-2")


def test_less_memory_is_set_on_every_server_before_the_first_one_is_replaced(drained: Any) -> None:
    servers = Servers([(PRIMARY, UP, UP)])
    assert drained(servers, "redis-2", maxmemory=60)
    assert [servers.members[name].said for name in SERVER_NAMES] == [["CONFIG SET maxmemory 60"]] * 3
    # The data do not fit.
    assert not drained(servers, "redis-2", maxmemory=40)
    # More memory needs no preparation.
    servers = Servers([(PRIMARY, UP, UP)])
    assert drained(servers, "redis-2", maxmemory=1000)
    assert not any(servers.members[name].said for name in SERVER_NAMES)


@pytest.fixture
def shrunk(clock: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(member: Member, maxmemory: int, policy: str) -> str:
        """Return the refusal, or ''."""
        member.name = "redis"
        monkeypatch.setattr(redis_drain, "existing_members", lambda _: {"redis": member})
        try:
            shrink("gw-redis", maxmemory, policy)
        except SettingError as error:
            return str(error)
        return ""

    return run


def test_a_server_with_persistence_is_reduced_before_it_has_less_memory(shrunk: Any) -> None:
    server = Member(data=90, fixed=0, loading=["1", "1"])
    assert not shrunk(server, 60, "allkeys-lru")
    assert (server.data, server.said) == (60, ["CONFIG SET maxmemory 60 maxmemory-policy allkeys-lru"])
    # A server that loads its data is awaited, also if nothing will be evicted.
    server = Member(data=50, policy="noeviction", loading=["1", "1"])
    assert not shrunk(server, 60, "noeviction")
    assert server.limit == 60
    # The new policy evicts what the old one does not.
    server = Member(data=90, fixed=0, policy="noeviction")
    assert not shrunk(server, 60, "allkeys-lru")
    assert server.data == 60
    # More memory, or the same, needs no preparation, even if the server is full.
    for maxmemory in (100, 200):
        server = Member(data=101, fixed=101, policy="noeviction")
        assert not shrunk(server, maxmemory, "noeviction")
        assert not server.said


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        # No write may fail meanwhile.
        ("noeviction", []),
        ("volatile-ttl", ["CONFIG SET maxmemory 60 maxmemory-policy volatile-ttl"]),
    ],
)
def test_data_that_do_not_fit_are_refused_and_the_server_keeps_its_limit(
    shrunk: Any, policy: str, said: list[str]
) -> None:
    server = Member(data=90, fixed=70, policy=policy)
    refusal = shrunk(server, 60, policy)
    assert refusal.startswith("groundwork:redisMaxmemory: Redis holds ")
    assert "\n" not in refusal
    assert server.said == [*said, f"CONFIG SET maxmemory 100 maxmemory-policy {policy}"]
    assert (server.limit, server.policy) == (100, policy)


def test_a_server_that_does_not_run_or_answer_is_not_reduced(
    shrunk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not shrunk(Member(is_running=False), 10, "noeviction")
    frozen = Member()

    def refuse(_: object) -> dict[str, str]:
        raise DockerError("no answer")

    monkeypatch.setattr(frozen, "info", refuse)
    assert not shrunk(frozen, 10, "noeviction")


@pytest.mark.parametrize(("was_more", "rewritten"), [(True, ["redis"]), (False, [])])
def test_an_aof_is_rewritten_by_the_up_after_one_that_was_killed(
    monkeypatch: pytest.MonkeyPatch, was_more: bool, rewritten: list[str]
) -> None:
    """The killed `up` had set the lower limit."""
    made: list[str] = []
    monkeypatch.setattr(redis_drain, "existing_members", lambda _: {"redis": Member(limit=60, name="redis")})
    monkeypatch.setattr(redis_drain, "rewrite_aof", lambda server: made.append(server.name))
    shrink("gw-redis", 60, "allkeys-lru", was_more=was_more)
    assert made == rewritten


@pytest.mark.parametrize(
    ("has_replicas", "exist", "maxmemory", "calls"),
    [
        (True, True, 60, ["drain", "rewrite redis-2"]),
        (True, True, 100, ["drain"]),
        # Replicas are turned on, or off.
        (True, False, 60, ["shrink True"]),
        (False, True, 60, ["shrink True"]),
        (False, True, 100, ["shrink False"]),
    ],
)
def test_what_prepares_a_replacement_depends_on_the_servers_that_exist(
    monkeypatch: pytest.MonkeyPatch, has_replicas: bool, exist: bool, maxmemory: int, calls: list[str]
) -> None:
    made: list[str] = []
    members = {name: Member(name=name) for name in SERVER_NAMES} if exist else {}
    monkeypatch.setattr(redis_drain, "redis_members", lambda _: members)
    monkeypatch.setattr(redis_drain, "drain", lambda *_: made.append("drain"))
    monkeypatch.setattr(redis_drain, "shrink", lambda *_, was_more: made.append(f"shrink {was_more}"))
    monkeypatch.setattr(redis_drain, "rewrite_aof", lambda server: made.append(f"rewrite {server.name}"))
    news: dict[str, Any] = {"first_container": "gw-redis", "name": "redis-2", "maxmemory_bytes": maxmemory}
    news |= {"eviction_policy": "noeviction", "keeps_data": True, "has_replicas": has_replicas}
    redis_drain.RedisDrainProvider().update("", {"maxmemory_bytes": 100}, news)
    assert made == calls


def test_without_an_answer_of_a_sentinel_an_up_continues(
    drained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers([(PRIMARY, UP, UP)])

    def refuse(_: object) -> str:
        raise DockerError("no Sentinel can fail over")

    monkeypatch.setattr(servers, "ask_for_failover", refuse)
    assert not drained(servers, "redis")


def test_a_primary_without_replicas_is_not_the_primary() -> None:
    assert primary_of({"redis": ALONE, "redis-2": UP}) is None
    assert primary_of({"redis": ALONE, "redis-2": PRIMARY}) == "redis-2"


def _named(program: Program, name: str) -> Any:
    (found,) = (resource for resource in program.resources if resource.name == name)
    return found


@promise("`up` replaces the servers and Sentinels of Redis one after the other, and the primary last")
def test_servers_are_replaced_one_after_the_other_and_the_primary_last(run: Run) -> None:
    cases: list[tuple[str | None, list[str]]] = [
        (None, ["redis", "redis-2", "redis-3"]),
        ("redis", ["redis-2", "redis-3", "redis"]),
        ("redis-2", ["redis", "redis-3", "redis-2"]),
    ]
    for primary, order in cases:
        with in_case(primary, order):
            program = run(redisReplicas="2", redis_primary=primary)
            for n, name in enumerate(order):
                before = {_named(program, f"{each}-healthy").urn for each in order[:n]}
                assert _named(program, f"{name}-drain").depends_on >= before
                assert _named(program, f"{name}-drain").urn in program.of_type(CONTAINER)[name].depends_on
            previous = [_named(program, f"{name}-healthy").urn for name in order]
            for name in SENTINEL_NAMES:
                assert program.of_type(CONTAINER)[name].depends_on >= {*previous}
                previous.append(_named(program, f"{name}-healthy").urn)


def test_what_replaces_a_container_drains_it_first(run: Run) -> None:
    cases: list[dict[str, str]] = [{"redisMemory": "300MB"}, {"redisMaxclients": "77"}, {"logMaxFiles": "7"}]
    for changed in cases:
        with in_case(changed):
            before, after = run(redisReplicas="2"), run(redisReplicas="2", **changed)
            for name in SERVER_NAMES:
                digests = {_named(program, f"{name}-drain").inputs["digest"] for program in (before, after)}
                assert len(digests) == 2, name


def test_what_replaces_no_container_drains_none(run: Run) -> None:
    before, after = run(redisReplicas="2"), run(redisReplicas="2", accessMemory="300MB")
    for name in SERVER_NAMES:
        assert _named(before, f"{name}-drain").inputs == _named(after, f"{name}-drain").inputs


def test_a_single_server_is_drained_only_if_the_next_one_loads_its_data(run: Run, program: Program) -> None:
    assert not [resource for resource in program.resources if resource.name.endswith("-drain")]
    kept = run(redisPersistence="aof")
    drain = _named(kept, "redis-drain").urn
    assert drain in kept.of_type(CONTAINER)["redis"].depends_on
    # If it refuses the change, a restart of the old server must not find the new configuration.
    assert drain in _named(kept, "redis-files").depends_on
