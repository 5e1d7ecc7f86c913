"""`groundwork cluster`: what Patroni reports, what is wrong with it, and the moves of a switchover."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.docker import members
from infra.docker.engine import DockerError
from ops.errors import Exit, OpsError
from ops.stack import cluster
from ops.stack.cluster import Cluster, problems, render
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

    def inspect(self, _kind: str, *names: str) -> list[dict[str, Any]]:
        return [{"Name": f"/{name}", "State": {"Status": self.status[name]}} for name in names]

    def ctl(self, container: str, command: str, *arguments: str, seconds: int = 0) -> str:
        if self.status[container] != "running":
            raise DockerError("container is paused")
        if command == "list":
            return json.dumps([self._row(member) for member in MEMBERS if member not in self.absent])
        old, new = arguments[2], arguments[4]
        if (old, new) != (self.primary, self.synchronous):
            raise DockerError("`docker exec` failed: Error: candidate name does not match with sync_standby")
        self.moves.append((old, new))
        third = next(member for member in MEMBERS if member not in (old, new))
        self.primary, self.synchronous = new, third
        return "Successfully switched over"

    def _row(self, member: str) -> dict[str, Any]:
        role = {self.primary: "Leader", self.synchronous: "Sync Standby"}.get(member, "Replica")
        state = self.states.get(member, "running" if role == "Leader" else "streaming")
        lag = {} if role == "Leader" else {"Replay Lag": 3}
        return {"Member": member, "Role": role, "State": state, "TL": 4, **lag}


@pytest.fixture
def patroni(monkeypatch: pytest.MonkeyPatch) -> Patroni:
    patroni = Patroni()
    monkeypatch.setattr(cluster, "inspect", patroni.inspect)
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


def test_a_list_that_does_not_end_is_reported_and_not_asked_for_again(
    stack: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without etcd, `patronictl list` waits forever.
    asked: list[str] = []

    def hang(container: str, *_: str, seconds: int = 0) -> str:
        assert 0 < seconds <= 30
        asked.append(container)
        raise DockerError("`docker exec` failed: exit status 124")

    monkeypatch.setattr(members, "patronictl", hang)
    with pytest.raises(OpsError, match="cannot list the members; see whether etcd runs") as refused:
        stack.members()
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert asked == ["gw-postgres"]


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

    def refuse(container: str, command: str, *arguments: str) -> str:
        if command == "switchover":
            raise DockerError(
                "`docker exec` failed: Current cluster topology\nSwitchover failed, no candidates"
            )
        return ctl(container, command, *arguments)

    monkeypatch.setattr(cluster, "patronictl", refuse)
    with pytest.raises(
        OpsError, match="cannot move the primary from postgres to postgres-2: Switchover failed"
    ) as e:
        stack.switch_over(None, print)
    assert "\n" not in str(e.value)


def test_a_switchover_without_a_synchronous_replica_is_refused(stack: Cluster, patroni: Patroni) -> None:
    patroni.states = {"postgres-2": "stopped"}
    with pytest.raises(OpsError, match="has no synchronous replica") as refused:
        stack.switch_over(None, print)
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert patroni.moves == []
