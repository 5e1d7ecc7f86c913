"""`groundwork cluster` when the roles of the Postgres servers change while a command runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from cache.settings import CacheSettings
from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops import cli
from ops.errors import Exit, OpsError
from ops.stack import cluster
from ops.stack.cluster import Cluster
from tests.promises import promise
from tests.unit.commands.test_foreign_text import UNLOCKED, answers
from tests.unit.stack import test_cluster
from tests.unit.stack.test_cluster import CONTAINERS, MEMBERS, Patroni

patroni, stack = test_cluster.patroni, test_cluster.stack


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_POLL_SECONDS", 0)


@pytest.fixture
def command(stack: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command of `cluster`. Its third argument is called during the question."""
    for name, value in UNLOCKED.items():
        monkeypatch.setattr(name, value)
    monkeypatch.setattr(Checkout, "here", answers(None))
    monkeypatch.setattr(Cluster, "of", answers(stack))

    def run(words: str, during_the_question: Callable[[], None]) -> Result:
        monkeypatch.setattr("ops.consent.require_consent", lambda *_, **__: during_the_question())
        return CliRunner().invoke(cli.cli, ["cluster", *words.split()])

    return run


def _kill(patroni: Patroni, *members: str) -> None:
    for member in members:
        patroni.status[CONTAINERS[member]] = "exited"


def _promote(patroni: Patroni, member: str, synchronous: str = "nobody") -> None:
    _kill(patroni, patroni.primary)
    patroni.primary, patroni.synchronous = member, synchronous


def test_a_replica_that_is_promoted_during_the_question_keeps_its_data(
    command: Callable[..., Result], patroni: Patroni
) -> None:
    found = command("reinit postgres-2", lambda: _promote(patroni, "postgres-2")).exception
    assert isinstance(found, OpsError)
    assert (found.exit_code, patroni.done) == (Exit.REFUSED, [])
    assert str(found).startswith("postgres-2 is the primary of stack 'dev'")


@pytest.mark.parametrize("others", ["the primary has died", "no other server runs", "the list fails"])
def test_a_replica_that_is_promoted_before_it_stops_keeps_its_data(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    def docker(action: str, *arguments: str, timeout_seconds: float = 120) -> str:
        if action == "stop":
            _promote(patroni, "postgres-2")
            _kill(patroni, "postgres-2", *(["postgres-3"] if others == "no other server runs" else []))
            if others == "the list fails":
                monkeypatch.setattr(cluster, "listed_members", fail)
        return patroni.docker(action, *arguments, timeout_seconds=timeout_seconds)

    def fail(_: str) -> None:
        raise DockerError("no etcd")

    monkeypatch.setattr(cluster, "docker", docker)
    stack.require_copyable("postgres-2")
    with pytest.raises(OpsError, match=r"has no primary|are not known") as refused:
        stack.copy_again("postgres-2", lambda _: None)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert patroni.done == ["stop gw-postgres-2", "start gw-postgres-2"]


def test_a_replica_that_does_not_start_again_does_not_hide_why_its_data_is_kept(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    def docker(action: str, *arguments: str, timeout_seconds: float = 120) -> str:
        if action == "stop":
            _kill(patroni, "postgres")
        elif action == "start":
            raise DockerError("no engine")
        return patroni.docker(action, *arguments, timeout_seconds=timeout_seconds)

    said: list[str] = []
    monkeypatch.setattr(cluster, "docker", docker)
    with pytest.raises(OpsError, match="has no primary"):
        stack.copy_again("postgres-2", said.append)
    assert (
        said[-1] == "postgres-2 is still stopped, with its data: no engine; run `groundwork up --stack dev`"
    )


def test_a_replica_that_hands_over_as_it_stops_copies_the_new_primary(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LIST_SECONDS", 60)
    lists = iter([[], [{"Member": "postgres-3", "Role": "Leader", "State": "running"}]])
    monkeypatch.setattr(cluster, "listed_members", lambda _: next(lists))
    _kill(patroni, "postgres-2")
    stack.copy_again("postgres-2", lambda _: None)
    assert patroni.done[1] == "run gw-postgres-2-data"


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (
            lambda patroni: patroni.status.update({"gw-postgres": "running"}),
            Exit.REFUSED,
            "postgres is the primary",
        ),
        (
            lambda patroni: setattr(patroni, "synchronous", "nobody"),
            Exit.REFUSED,
            "postgres-2 of stack 'dev' changed its role while you confirmed",
        ),
        (
            lambda patroni: _kill(patroni, "postgres-2"),
            Exit.UNREACHABLE,
            "postgres-2 cannot become the primary",
        ),
        (lambda patroni: None, None, "postgres-2 is the primary now"),
    ],
    ids=["a primary returned", "writes may be lost", "the replica has stopped", "nothing"],
)
def test_a_failover_looks_again_after_the_question(
    command: Callable[..., Result],
    patroni: Patroni,
    change: Callable[[Patroni], None],
    code: Exit | None,
    reason: str,
) -> None:
    _kill(patroni, "postgres")
    result = command("failover", lambda: change(patroni))
    if code is None:
        assert reason in result.output
        assert patroni.primary == "postgres-2"
        return
    assert isinstance(result.exception, OpsError)
    assert result.exception.exit_code == code
    assert reason in str(result.exception)
    assert patroni.primary == "postgres"


@promise("a failover that may lose writes flushes the cache, which may contain them")
@pytest.mark.parametrize(
    ("killed", "refusal", "flushed_at", "said"),
    [
        (["postgres", "postgres-2"], None, ["postgres"], "the cache was flushed"),
        (
            ["postgres", "postgres-2"],
            OpsError("cannot reach Redis at localhost:1: refused", Exit.UNREACHABLE),
            ["postgres"],
            "may still be cached; run `groundwork cache flush --all --stack dev`",
        ),
        (["postgres"], None, [], "no acknowledged write is lost"),
    ],
    ids=["the third server", "Redis does not answer", "the synchronous replica"],
)
def test_a_failover_that_may_lose_writes_flushes_the_cache(
    command: Callable[..., Result],
    patroni: Patroni,
    monkeypatch: pytest.MonkeyPatch,
    killed: list[str],
    refusal: OpsError | None,
    flushed_at: list[str],
    said: str,
) -> None:
    primaries: list[str] = []

    def flush(settings: CacheSettings) -> None:
        assert settings.url.read() == "redis://ops@localhost:1/0"
        primaries.append(patroni.primary)
        if refusal is not None:
            raise refusal

    urls = answers({"REDIS_URL": "redis://ops@localhost:1/0"})
    monkeypatch.setattr("ops.stack.connections.environment_of", urls)
    monkeypatch.setattr("ops.backup.post_restore.invalidate_namespaces", flush)
    _kill(patroni, *killed)

    result = command("failover", lambda: None)

    # Before the promotion, and the failed flush does not prevent it.
    assert primaries == flushed_at
    assert patroni.primary == MEMBERS[len(killed)]
    assert said in result.output
    assert (str(refusal) in result.output) is (refusal is not None)


def test_a_failover_of_redis_looks_again_after_the_question(
    command: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Redis:
        primary = ""

        def require_no_primary(self) -> None:
            if self.primary:
                raise OpsError("redis is the primary", Exit.REFUSED)

        def fail_over(self, to: str | None) -> str:
            pytest.fail("it moves the primary")

    redis = Redis()
    monkeypatch.setattr("ops.stack.redis_cluster.RedisCluster.of", answers(redis))
    found = command("failover --service redis", lambda: setattr(redis, "primary", "redis")).exception
    assert isinstance(found, OpsError)
    assert found.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("state", "to"), [("exited", "postgres-3"), ("paused", "postgres-2"), ("start failed", "postgres-3")]
)
def test_a_switchover_to_a_server_that_is_not_healthy_moves_nothing(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch, state: str, to: str
) -> None:
    if state == "start failed":
        patroni.states[to] = state
    else:
        patroni.status[CONTAINERS[to]] = state
        monkeypatch.setattr(cluster, "_LIST_SECONDS", 1000)
        monkeypatch.setattr(cluster.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(
        OpsError, match=f"to {to}, which is {state}; `groundwork up --stack dev` starts a stop"
    ) as refused:
        stack.switch_over(to, lambda _: None)
    assert (refused.value.exit_code, patroni.moves) == (Exit.UNREACHABLE, [])


def test_a_switchover_waits_for_a_server_that_is_starting(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LIST_SECONDS", 60)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: patroni.states.clear())
    patroni.states = {"postgres-3": "starting"}
    assert stack.switch_over("postgres-3", lambda _: None) == ("postgres", "postgres-3")


def test_a_switchover_to_a_server_whose_api_does_not_answer_moves_nothing(
    stack: Cluster, patroni: Patroni
) -> None:
    patroni.silent = {"gw-postgres-3"}
    with pytest.raises(OpsError, match="API of postgres-3 does not answer"):
        stack.switch_over("postgres-3", lambda _: None)
    assert patroni.moves == []


@pytest.mark.parametrize("synchronous", ["postgres", "nobody"])
def test_a_switchover_to_a_server_that_does_not_become_synchronous_moves_once(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    move = patroni.ctl

    def ctl(container: str, command: str, *arguments: str, seconds: int = 0) -> str:
        said = move(container, command, *arguments, seconds=seconds)
        if command == "switchover":
            patroni.synchronous = synchronous
        return said

    monkeypatch.setattr(cluster, "patronictl", ctl)
    with pytest.raises(OpsError, match="; postgres-2 is the primary; see") as refused:
        stack.switch_over("postgres-3", lambda _: None)
    assert (refused.value.exit_code, patroni.moves) == (Exit.UNREACHABLE, [("postgres", "postgres-2")])


def test_a_switchover_waits_until_the_named_server_is_synchronous(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LIST_SECONDS", 60)
    move = patroni.ctl

    def ctl(container: str, command: str, *arguments: str, seconds: int = 0) -> str:
        said = move(container, command, *arguments, seconds=seconds)
        if command == "switchover" and len(patroni.moves) == 1:
            # The former primary follows first.
            patroni.synchronous = "postgres"
        return said

    monkeypatch.setattr(cluster, "patronictl", ctl)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: setattr(patroni, "synchronous", "postgres-3"))
    assert stack.switch_over("postgres-3", lambda _: None) == ("postgres", "postgres-3")
    assert patroni.moves == [("postgres", "postgres-2"), ("postgres-2", "postgres-3")]
