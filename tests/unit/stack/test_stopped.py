"""`up` starts containers that somebody stopped, killed or paused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from infra.docker import members
from infra.docker.engine import DockerError
from infra.docker.members import NoPrimary
from ops.stack import stopped
from ops.stack.stopped import start_stopped
from tests.promises import promise

PREFIX = "gw-0a1b2c-dev-"
FIRST = f"{PREFIX}postgres"


class Engine:
    """Containers by name with their state. Records commands and waits, without the prefix of the names."""

    def __init__(self, **states: str) -> None:
        self.states = {PREFIX + name.replace("_", "-"): state for name, state in states.items()}
        self.done: list[str] = []
        self.has_primary = True
        self.networks = ["n1"]
        self.disconnected: set[str] = set()

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        if kind == "network":
            return [{"Id": id_, "Name": "data"} for id_ in self.networks if {id_, "data"} & {*names}]
        return [
            {
                "Name": f"/{name}",
                "State": {
                    "Running": self.states[name] in ("running", "paused", "restarting"),
                    "Paused": self.states[name] == "paused",
                    "Restarting": self.states[name] == "restarting",
                },
                # A container that never ran knows only the network's name.
                "NetworkSettings": {
                    "Networks": {}
                    if name.removeprefix(PREFIX) in self.disconnected
                    else {"data": {"NetworkID": "" if self.states[name] == "created" else "n1"}}
                },
            }
            for name in names
            if name in self.states
        ]

    def docker(self, command: str, *arguments: str) -> str:
        name = arguments[-1]
        self.done.append(f"{command} {name.removeprefix(PREFIX)}")
        if self.states[name] == "dead":
            raise DockerError("no space left")
        return ""

    def primary(self, first: str) -> str:
        self.done.append("await the primary")
        if not self.has_primary:
            raise NoPrimary("no member is the primary")
        return first

    def healthy(self, name: str, _seconds: float) -> None:
        self.done.append(f"await {name.removeprefix(PREFIX)}")
        if self.states[name] == "dead":
            raise DockerError("not healthy")


def start(monkeypatch: pytest.MonkeyPatch, engine: Engine, *, retired: Sequence[str] = ()) -> list[str]:
    for module in (stopped, members):
        monkeypatch.setattr(module, "inspect", engine.inspect)
    monkeypatch.setattr(stopped, "docker", engine.docker)
    monkeypatch.setattr(stopped, "primary_container", engine.primary)
    monkeypatch.setattr(stopped, "wait_until_healthy", engine.healthy)
    said: list[str] = []
    start_stopped(list(engine.states), FIRST, said.append, retired=retired)
    return said


@promise("`up` starts containers that were stopped, killed or paused")
def test_stopped_and_frozen_containers_are_started_and_others_left(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(postgres="running", redis="exited", access="paused", etcd_1="created", x="restarting")
    said = start(monkeypatch, engine)
    assert engine.done == [
        *("start redis", "unpause access", "start etcd-1"),
        *("await redis", "await access", "await etcd-1"),
    ]
    assert said == [
        f"starting {PREFIX}redis, which was stopped",
        f"starting {PREFIX}access, which was paused",
        f"starting {PREFIX}etcd-1, which was stopped",
    ]


def test_containers_that_were_disconnected_from_their_network_are_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`docker network disconnect` leaves a container that runs, and whose health check never succeeds."""
    engine = Engine(postgres="running", redis="exited", access="paused", etcd_1="running")
    engine.disconnected = {"postgres", "redis", "access"}
    said = start(monkeypatch, engine)
    assert engine.done == ["stop postgres", "rm postgres", "rm redis", "rm access"]
    assert (
        said[0]
        == f"removing {PREFIX}postgres, which has no network; it is created again, and its data is kept"
    )


@pytest.mark.parametrize("network", ["", "created again"])
def test_stopped_containers_of_a_removed_network_are_removed(
    monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """Docker cannot start a container whose network is gone, even if there is another one with the same name."""
    engine = Engine(postgres="exited", redis="exited", access="paused", etcd_1="created")
    engine.networks = [network] if network else []
    said = start(monkeypatch, engine)
    third = "start etcd-1" if network else "rm etcd-1"
    assert sorted(each for each in engine.done if not each.startswith("await")) == sorted(
        ["rm postgres", "rm redis", "unpause access", third]
    )
    assert said[0] == (
        f"removing {PREFIX}postgres, whose network was removed; it is created again, and its data is kept"
    )


def test_nothing_is_done_if_everything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(postgres="running", redis="running")
    assert start(monkeypatch, engine) == engine.done == []
    assert start(monkeypatch, Engine()) == []


def test_replicas_that_an_interrupted_up_has_retired_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(postgres="running", postgres_2="exited", access="exited")
    start(monkeypatch, engine, retired=[f"{PREFIX}postgres-2", f"{PREFIX}postgres-3"])
    assert engine.done == ["start access", "await access"]


@pytest.mark.parametrize("member", ["postgres", "postgres_3"])
def test_a_started_member_of_a_cluster_waits_for_a_primary(
    monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    states = {"postgres": "running", "postgres_2": "running", "postgres_3": "running"} | {member: "exited"}
    engine = Engine(**states)
    start(monkeypatch, engine)
    assert engine.done[1] == "await the primary"


def test_a_container_that_cannot_start_is_reported_and_the_up_continues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(postgres="dead", postgres_2="running")
    engine.has_primary = False
    assert start(monkeypatch, engine)[1:] == [
        "warning: no space left",
        "warning: no member is the primary",
        "warning: not healthy",
    ]
