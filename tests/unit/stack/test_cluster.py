"""`groundwork cluster`: what Patroni reports, what is wrong with it, and the moves of a switchover."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.docker import members
from infra.docker.engine import MOST_STOP_SECONDS, DockerError
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError
from ops.stack import cluster
from ops.stack.cluster import (
    REPLICA,
    SYNCHRONOUS,
    Cluster,
    problems,
    render,
    silent_api_problems,
)
from ops.stack.pulumi_stack import PulumiStack
from ops.stack.replicas import require_replicas
from tests.promises import promise

MEMBERS = ("postgres", "postgres-2", "postgres-3")
CONTAINERS = {member: f"gw-{member}" for member in MEMBERS}


class Patroni:
    """Three members. A switchover makes the synchronous replica the primary, and the third member synchronous."""

    def __init__(self, primary: str = "postgres", synchronous: str = "postgres-2") -> None:
        self.primary, self.synchronous = primary, synchronous
        self.status = dict.fromkeys(CONTAINERS.values(), "running")
        self.states: dict[str, str] = {}
        self.absent: set[str] = set()
        self.moves: list[tuple[str, str]] = []
        self.received = dict.fromkeys(MEMBERS, "0/1000")
        self.done: list[str] = []
        self.silent: set[str] = set()
        self.answer = ""
        self.chosen = ""

    def inspect(self, _kind: str, *names: str) -> list[dict[str, Any]]:
        config = {"Labels": {"groundwork.stack": "dev"}, "User": "10010:10010"}
        return [
            {"Name": f"/{name}", "State": {"Status": self.status[name]}, "Config": config, "Image": "image"}
            for name in names
        ]

    def docker(self, command: str, *arguments: str, timeout_seconds: float = 120) -> str:
        assert command != "stop" or timeout_seconds > MOST_STOP_SECONDS
        volume = next((a.partition(":")[0] for a in arguments if a.endswith(":/var/lib/postgresql")), "")
        self.done.append(f"{command} {volume or arguments[0]}")
        return ""

    def healthy(self, container: str, _seconds: float) -> None:
        self.done.append(f"await {container}")

    def primary_of(self, containers: dict[str, str]) -> str | None:
        return self.primary if self.primary in containers else None

    def ctl(self, container: str, command: str, *arguments: str, seconds: int = 0) -> str:
        if self.status[container] != "running":
            raise DockerError("container is paused")
        if command == "list":
            return json.dumps([self._row(member) for member in MEMBERS if member not in self.absent])
        if command == "failover":
            self.primary = arguments[2]
            return "Successfully failed over"
        old, new = arguments[2], arguments[4]
        if (old, new) != (self.primary, self.synchronous):
            raise DockerError("`docker exec` failed: Error: candidate name does not match with sync_standby")
        self.moves.append((old, new))
        if self.answer:
            self.primary = self.chosen or old
            return f"Current cluster topology\n{self.answer}\n+ Cluster +"
        third = next(member for member in MEMBERS if member not in (old, new))
        self.primary, self.synchronous = new, third
        return "Successfully switched over"

    def _row(self, member: str) -> dict[str, Any]:
        role = {self.primary: "Leader", self.synchronous: "Sync Standby"}.get(member, "Replica")
        state = self.states.get(member, "running" if role == "Leader" else "streaming")
        lag = {} if role == "Leader" else {"Replay Lag": 3}
        lag |= {} if role == "Leader" else {"Receive LSN": self.received[member]}
        return {"Member": member, "Role": role, "State": state, "TL": 4, **lag}


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> Patroni:
    patroni = Patroni()
    monkeypatch.setattr(cluster, "inspect", patroni.inspect)
    monkeypatch.setattr(cluster, "docker", patroni.docker)
    monkeypatch.setattr(cluster, "wait_until_healthy", patroni.healthy)
    monkeypatch.setattr(cluster, "primary_of", patroni.primary_of)
    monkeypatch.setattr(cluster, "answers_api", lambda container: container not in patroni.silent)
    for module in (cluster, members):
        monkeypatch.setattr(module, "patronictl", patroni.ctl)
    monkeypatch.setattr(cluster, "_LIST_SECONDS", 0)
    return patroni


@pytest.fixture
def stack(patroni: Patroni) -> Cluster:
    return Cluster("dev", CONTAINERS)


def test_each_member_has_its_role_state_timeline_and_lag(stack: Cluster) -> None:
    found = stack.members()
    assert [(m.name, m.role, m.state, m.timeline, m.lag_mb) for m in found] == [
        ("postgres", "primary", "running", 4, None),
        ("postgres-2", "synchronous replica", "streaming", 4, 3),
        ("postgres-3", "replica", "streaming", 4, 3),
    ]
    assert problems(found) == []
    assert render(found)[2].split() == [
        "postgres-2",
        "synchronous",
        "replica",
        "streaming",
        "4",
        "3MB",
        "gw-postgres-2",
    ]


def test_a_frozen_member_is_reported_as_such_by_the_others(stack: Cluster, patroni: Patroni) -> None:
    # etcd still lists it as the primary, until its lease ends.
    patroni.status["gw-postgres"] = "paused"
    assert problems(stack.members()) == ["there is no primary: nothing can be written", "postgres is paused"]


def test_a_member_that_etcd_does_not_know_is_not_in_the_cluster(stack: Cluster, patroni: Patroni) -> None:
    patroni.absent = {"postgres-3"}
    assert problems(stack.members()) == ["postgres-3 is not in the cluster"]


def test_a_primary_without_a_synchronous_replica_is_reported(stack: Cluster, patroni: Patroni) -> None:
    patroni.states = {"postgres-2": "start failed"}
    assert problems(stack.members()) == [
        "there is no synchronous replica: every write waits",
        "postgres-2 is start failed",
    ]


def test_without_etcd_the_roles_are_not_known(stack: Cluster, patroni: Patroni) -> None:
    patroni.absent = set(MEMBERS)
    with pytest.raises(OpsError, match="etcd does not answer") as refused:
        stack.members()
    assert refused.value.exit_code == Exit.UNREACHABLE


def test_lists_that_do_not_end_are_reported_after_one_time_limit(
    stack: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without etcd, `patronictl list` waits forever, in each server.
    asked: list[str] = []
    all_asked = threading.Barrier(len(MEMBERS))

    def hang(container: str, *_: str, seconds: int = 0) -> str:
        assert 0 < seconds <= 15
        asked.append(container)
        all_asked.wait(60)
        raise DockerError("`docker exec` failed: exit status 124")

    monkeypatch.setattr(members, "patronictl", hang)
    monkeypatch.setattr(cluster, "_ALONE_SECONDS", 0.1)
    with pytest.raises(OpsError, match="cannot list the members; see whether etcd runs") as refused:
        stack.members()
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert sorted(asked) == sorted(CONTAINERS.values())


@promise("the servers are listed whichever of them is isolated")
@pytest.mark.parametrize("isolated", [*([member] for member in MEMBERS), MEMBERS[:2]], ids=str)
def test_the_members_are_listed_whichever_of_them_is_isolated(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch, isolated: Sequence[str]
) -> None:
    def ctl(container: str, *arguments: str, seconds: int = 0) -> str:
        if container in {CONTAINERS[member] for member in isolated}:
            raise DockerError("`docker exec` failed: exit status 124")
        return patroni.ctl(container, *arguments, seconds=seconds)

    monkeypatch.setattr(members, "patronictl", ctl)
    patroni.absent = set(isolated)
    assert [m.state for m in stack.members() if m.name in isolated] == ["not in the cluster"] * len(isolated)


def test_members_that_work_are_listed_by_one_of_them(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ctl(container: str, *arguments: str, seconds: int = 0) -> str:
        asked.append(container)
        return patroni.ctl(container, *arguments, seconds=seconds)

    monkeypatch.setattr(members, "patronictl", ctl)
    monkeypatch.setattr(cluster, "_ALONE_SECONDS", 60)
    assert [member.name for member in stack.members()] == list(MEMBERS)
    assert asked == ["gw-postgres"]


def test_a_member_whose_etcd_is_empty_does_not_hide_what_another_lists(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctl(container: str, *arguments: str, seconds: int = 0) -> str:
        return "[]" if container == "gw-postgres" else patroni.ctl(container, *arguments, seconds=seconds)

    monkeypatch.setattr(members, "patronictl", ctl)
    assert problems(stack.members()) == []


def test_without_a_running_member_the_roles_are_not_known(stack: Cluster, patroni: Patroni) -> None:
    patroni.status = dict.fromkeys(patroni.status, "exited")
    with pytest.raises(OpsError, match="none is running"):
        stack.members()


@promise("a switchover reaches any member, in at most two moves")
@pytest.mark.parametrize(
    ("to", "moves"),
    [
        (None, [("postgres", "postgres-2")]),
        ("postgres", []),
        ("postgres-2", [("postgres", "postgres-2")]),
        ("postgres-3", [("postgres", "postgres-2"), ("postgres-2", "postgres-3")]),
    ],
)
def test_a_switchover_moves_only_to_synchronous_replicas(
    stack: Cluster, patroni: Patroni, to: str | None, moves: list[tuple[str, str]]
) -> None:
    said: list[str] = []
    old, new = stack.switch_over(to, said.append)
    assert (old, new) == ("postgres", to or "postgres-2")
    assert patroni.moves == moves
    assert len(said) == len(moves)


def test_a_refused_switchover_is_reported_in_one_line(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctl = patroni.ctl

    def refuse(container: str, command: str, *arguments: str, seconds: int) -> str:
        if command == "switchover":
            raise DockerError(
                "`docker exec` failed: Current cluster topology\nSwitchover failed, no candidates"
            )
        return ctl(container, command, *arguments, seconds=seconds)

    monkeypatch.setattr(cluster, "patronictl", refuse)
    with pytest.raises(
        OpsError, match="cannot move the primary from postgres to postgres-2: Switchover failed"
    ) as e:
        stack.switch_over(None, print)
    assert "\n" not in str(e.value)


@promise("a switchover names the server whose API does not answer")
@pytest.mark.parametrize("silent", ["postgres", "postgres-2"])
def test_a_switchover_names_the_server_whose_api_does_not_answer(
    stack: Cluster, patroni: Patroni, silent: str
) -> None:
    patroni.silent = {f"gw-{silent}"}
    with pytest.raises(
        OpsError, match=rf"API of {silent} does not answer; see `groundwork cluster status --stack dev`"
    ) as refused:
        stack.switch_over(None, lambda _: None)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert patroni.moves == []


@promise("a switchover names the server whose API does not answer")
@pytest.mark.parametrize("command", ["switchover", "failover"])
def test_a_server_that_falls_silent_during_a_move_is_named(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def hang(container: str, *_: str, seconds: int) -> str:
        assert 0 < seconds <= 60
        patroni.silent = {container}
        raise DockerError("did not end")

    monkeypatch.setattr(cluster, "patronictl", hang)
    if command == "failover":
        patroni.status["gw-postgres"] = "exited"
    with pytest.raises(OpsError, match=r"Patroni's API of postgres(-2)? does not answer") as refused:
        stack.switch_over(None, lambda _: None) if command == "switchover" else stack.fail_over(
            stack.successor(None)
        )
    assert refused.value.exit_code == Exit.UNREACHABLE


def test_a_silent_api_of_a_healthy_member_is_a_problem(stack: Cluster, patroni: Patroni) -> None:
    assert silent_api_problems(stack.members()) == []
    patroni.silent = {"gw-postgres-2", "gw-postgres-3"}
    patroni.status["gw-postgres-3"] = "paused"
    assert silent_api_problems(stack.members()) == [
        "Patroni's API of postgres-2 does not answer: no switchover, and no primary without etcd"
    ]


def test_a_switchover_asks_again_if_a_list_fails(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LIST_SECONDS", 60)
    failures = iter([DockerError("`docker exec` failed: exit status 124")])

    def ctl(container: str, *arguments: str, seconds: int = 0) -> str:
        for failure in failures:
            raise failure
        return patroni.ctl(container, *arguments, seconds=seconds)

    monkeypatch.setattr(members, "patronictl", ctl)
    assert stack.switch_over(None, lambda _: None) == ("postgres", "postgres-2")


def test_a_switchover_without_a_synchronous_replica_is_refused(stack: Cluster, patroni: Patroni) -> None:
    patroni.states = {"postgres-2": "stopped"}
    with pytest.raises(OpsError, match="has no synchronous replica") as refused:
        stack.switch_over(None, print)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert patroni.moves == []


def test_a_failover_is_refused_while_there_is_a_primary(stack: Cluster) -> None:
    with pytest.raises(
        OpsError, match=r"postgres is the primary of stack 'dev' and runs; .* switchover"
    ) as refused:
        stack.successor("postgres-2")
    assert refused.value.exit_code == Exit.REFUSED


@promise("a failover chooses the replica that has the most acknowledged writes, and says what may be lost")
@pytest.mark.parametrize(
    ("exited", "to", "new"),
    [
        # The synchronous replica has everything, wherever the other one is.
        ((), None, "postgres-2"),
        (("postgres-2",), None, "postgres-3"),
        ((), "postgres-3", "postgres-3"),
    ],
)
def test_a_failover_prefers_the_synchronous_replica(
    stack: Cluster, patroni: Patroni, exited: tuple[str, ...], to: str | None, new: str
) -> None:
    patroni.received["postgres-3"] = "1/0"
    for member in ("postgres", *exited):
        patroni.status[CONTAINERS[member]] = "exited"
    found = stack.successor(to)
    assert (found.name, found.role) == (new, SYNCHRONOUS if new == "postgres-2" else REPLICA)
    stack.fail_over(found)
    assert patroni.primary == new


def test_without_a_synchronous_replica_the_one_that_received_the_most_is_chosen(
    stack: Cluster, patroni: Patroni
) -> None:
    patroni.synchronous = "nobody"
    patroni.status["gw-postgres"] = "exited"
    patroni.received |= {"postgres-2": "0/FFFFFFFF", "postgres-3": "1/00000000"}
    assert stack.successor(None).name == "postgres-3"


@pytest.mark.parametrize("to", [None, "postgres-2"])
def test_a_failover_without_a_replica_that_runs_is_refused_with_the_states(
    stack: Cluster, patroni: Patroni, to: str | None
) -> None:
    patroni.status["gw-postgres"] = patroni.status["gw-postgres-2"] = "exited"
    patroni.states["postgres-3"] = "start failed"
    with pytest.raises(OpsError, match=f"{to or 'no server'} can.*postgres-3 is start failed") as refused:
        stack.successor(to)
    assert str(refused.value).endswith("restore a backup with `groundwork restore --to TIME --stack dev`")
    assert refused.value.exit_code == Exit.UNREACHABLE


def test_a_replica_that_does_not_become_the_primary_is_reported(
    stack: Cluster, patroni: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    patroni.status["gw-postgres"] = "exited"
    monkeypatch.setattr(cluster, "primary_of", lambda _: None)
    with pytest.raises(OpsError, match="postgres-2 did not become the primary of stack 'dev'") as refused:
        stack.fail_over(stack.successor(None))
    assert refused.value.exit_code == Exit.UNREACHABLE


@promise("`cluster reinit` copies a replica again in any state, and never the primary")
def test_the_primary_does_not_copy_itself(stack: Cluster, patroni: Patroni) -> None:
    with pytest.raises(OpsError, match="postgres is the primary of stack 'dev', whose data") as refused:
        stack.require_copyable("postgres")
    assert refused.value.exit_code == Exit.REFUSED
    patroni.status["gw-postgres"] = "exited"
    with pytest.raises(OpsError, match="has no primary that postgres-2 could copy") as refused:
        stack.require_copyable("postgres-2")
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert patroni.done == []


@promise("`cluster reinit` copies a replica again in any state, and never the primary")
@pytest.mark.parametrize("state", ["running", "exited", "restarting"])
def test_a_replica_in_any_state_copies_the_primary_again(
    stack: Cluster, patroni: Patroni, state: str
) -> None:
    patroni.status["gw-postgres-3"] = state
    assert [member.name for member in stack.require_copyable("postgres-3")] == ["postgres", "postgres-2"]
    stack.copy_again("postgres-3", lambda _: None)
    assert patroni.done == [
        *("stop gw-postgres-3", "run gw-postgres-3-data", "start gw-postgres-3", "await gw-postgres-3")
    ]


@pytest.mark.parametrize(("replicas", "code"), [("2", Exit.UNREACHABLE), ("0", Exit.REFUSED)])
def test_a_stack_with_replicas_that_is_not_up_differs_from_one_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, replicas: str, code: Exit
) -> None:
    settings = StackSettings.parse({"groundwork:postgresReplicas": replicas})
    monkeypatch.setattr(PulumiStack, "check_settings", lambda self: settings)
    with pytest.raises(OpsError, match="groundwork up --stack dev") as caught:
        require_replicas(Checkout(tmp_path, "1a2b3c", tmp_path, tmp_path), "dev", "Postgres", dict)
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("Switchover failed, details: 412, candidate name does not match with sync_standby", "postgres"),
        ("Switchover failed, details: 503, Switchover status unknown", "postgres"),
        ("Switched over to postgres-3 instead of postgres-2", "postgres-3"),
    ],
)
def test_a_switchover_that_patronictl_only_prints_as_failed_is_an_error(
    stack: Cluster, patroni: Patroni, answer: str, chosen: str
) -> None:
    """Its exit code is 0. The primary is the one that the list has afterwards."""
    patroni.answer, patroni.chosen = answer, chosen
    with pytest.raises(OpsError) as refused:
        stack.switch_over(None, lambda _: None)
    assert refused.value.exit_code == Exit.UNREACHABLE
    said = str(refused.value)
    assert f"from postgres to postgres-2: {answer}; {chosen} is the primary; see" in said
