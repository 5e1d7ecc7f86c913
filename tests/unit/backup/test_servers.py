"""The servers of a cluster around a restore: the order in which they stop and start, and what happens between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import outputs
from infra.docker import members
from infra.docker.engine import MOST_STOP_SECONDS, DockerError
from infra.docker.members import NoPrimary
from infra.spec import etcd
from infra.spec.checkout import Checkout
from infra.spec.postgres_cluster import MEMBERS
from ops.backup import markers, servers
from ops.backup import site as site_module
from ops.backup.site import BackupSite
from ops.errors import Exit, OpsError
from tests.promises import promise

PREFIX = "gw-0a1b2c-dev"
REPLICAS = MEMBERS[1:]


class Engine:
    """Containers by name, with whether they run. Records what was done, without the prefix of the names."""

    def __init__(self, primary: str | None, *running: str, stopped: tuple[str, ...] = ()) -> None:
        self.primary = primary
        self.containers = dict.fromkeys(running, True) | dict.fromkeys(stopped, False)
        self.done: list[str] = []

    def docker(self, command: str, *names: str, timeout_seconds: float = 120) -> str:
        if command == "stop" and "-postgres" in names[0]:
            assert timeout_seconds > MOST_STOP_SECONDS
        self.done.append(" ".join([command, *(name.removeprefix(f"{PREFIX}-") for name in names)]))
        return ""

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        if kind == "volume":
            return [{"Name": name} for name in names]
        found = (name for name in names if name.removeprefix(f"{PREFIX}-") in self.containers)
        states = {name: self.containers[name.removeprefix(f"{PREFIX}-")] for name in found}
        return [{"Name": f"/{name}", "State": {"Running": states[name]}} for name in states]

    def primary_container(self, *_: Any, **__: Any) -> str:
        if self.primary is None:
            raise NoPrimary("no member is the primary")
        return f"{PREFIX}-{self.primary}"

    def write(self, container: str, _purpose: str) -> None:
        self.done.append(f"marker in {container.removeprefix(f'{PREFIX}-')}")

    def healthy(self, container: str, _seconds: float) -> None:
        self.done.append(f"await {container.removeprefix(f'{PREFIX}-')}")

    @contextmanager
    def workbench(
        self, _site: BackupSite, _what: str, volumes: dict[str, tuple[str, bool]], *, uid: int
    ) -> Iterator[Any]:
        assert uid == etcd.UID
        names = [name.removeprefix(f"{PREFIX}-") for name, _ in volumes.values()]
        yield SimpleNamespace(sh=lambda script: self.done.append(f"{script} in {' '.join(names)}"))

    def mark_served(self) -> None:
        self.done.append("mark")

    def clear_copies(self) -> None:
        self.done.append("clear")


def use(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Engine:
    monkeypatch.setattr(servers, "docker", engine.docker)
    monkeypatch.setattr(servers, "primary_container", engine.primary_container)
    monkeypatch.setattr(servers, "wait_until_healthy", engine.healthy)
    monkeypatch.setattr(servers, "workbench", engine.workbench)
    monkeypatch.setattr(servers, "inspect", engine.inspect)
    monkeypatch.setattr(site_module, "inspect", engine.inspect)
    monkeypatch.setattr(markers, "write", engine.write)
    return engine


def site(*replicas: str) -> BackupSite:
    return BackupSite(
        stack="dev",
        prefix=PREFIX,
        image="image",
        data_volume=f"{PREFIX}-postgres-data",
        config_volume="config",
        repository_volume="repository",
        postgres=f"{PREFIX}-postgres",
        access=f"{PREFIX}-access",
        lock_file=Path("/no/such/lock"),
        replicas=replicas,
    )


def ignore(_line: str) -> None:
    pass


def test_a_server_that_is_paused_is_up_but_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine("postgres", "postgres", stopped=("postgres-2",)))
    running = engine.inspect
    for paused, serves in ((False, True), (True, False)):

        def inspect(kind: str, *names: str, is_paused: bool = paused) -> list[dict[str, Any]]:
            return [
                found | {"State": found["State"] | {"Paused": is_paused}} for found in running(kind, *names)
            ]

        monkeypatch.setattr(servers, "inspect", inspect)
        monkeypatch.setattr(site_module, "inspect", inspect)
        assert (servers.are_up(site("postgres-2")), servers.is_serving(site("postgres-2"))) == (True, serves)
    use(monkeypatch, Engine(None, stopped=MEMBERS))
    assert not servers.are_up(site(*REPLICAS))


@promise("a restore stops the primary last, so that no replica is promoted meanwhile")
@pytest.mark.parametrize("primary", MEMBERS)
def test_the_primary_is_stopped_last(monkeypatch: pytest.MonkeyPatch, primary: str) -> None:
    engine = use(monkeypatch, Engine(primary, *MEMBERS, "access"))
    servers.stop(site(*REPLICAS), ignore, mark=True)
    others = [member for member in MEMBERS if member != primary]
    assert engine.done == [
        f"marker in {primary}",
        "stop access",
        *(f"stop {member}" for member in others),
        f"stop {primary}",
    ]


def test_without_a_primary_all_servers_are_stopped_and_no_marker_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = use(monkeypatch, Engine(None, "postgres-3", stopped=("postgres",)))
    servers.stop(site(*REPLICAS), ignore, mark=True)
    assert engine.done == ["stop postgres-3", "stop postgres"]


@promise("after a restore, the replicas copy the restored data")
def test_replicas_start_only_when_the_restored_server_answers_and_their_data_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = use(monkeypatch, Engine("postgres-2", "access", stopped=MEMBERS))
    assert servers.start_restored(site(*REPLICAS), engine, ignore)  # type: ignore[arg-type]
    assert engine.done == [
        *("start postgres", "await postgres", "mark", "clear"),
        *("start postgres-2", "start postgres-3", "await postgres-2", "await postgres-3"),
        "start access",
    ]


def test_without_containers_nothing_is_started_and_the_replicas_copy_at_the_next_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = use(monkeypatch, Engine(None))
    assert not servers.start_restored(site(*REPLICAS), engine, ignore)  # type: ignore[arg-type]
    assert engine.done == ["clear"]


def test_the_state_in_etcd_is_deleted_while_etcd_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    # One of its containers is gone, and one is stopped.
    engine = use(monkeypatch, Engine(None, "etcd-1", stopped=("etcd-3",)))
    servers.forget_cluster(site(*REPLICAS), ignore)
    assert engine.done == [
        "stop etcd-1 etcd-3",
        "rm -rf /mnt/*/data in etcd-1-data etcd-2-data etcd-3-data",
        "start etcd-1 etcd-3",
    ]


def test_a_single_server_has_no_state_in_etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine("postgres", "postgres"))
    servers.forget_cluster(site(), ignore)
    assert engine.done == []


def test_data_that_was_put_back_is_served_by_all_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = use(monkeypatch, Engine("postgres-2", "access", stopped=MEMBERS))
    assert servers.start(site(*REPLICAS), ignore) == f"{PREFIX}-postgres-2"
    # Which one becomes the primary is up to the unchanged state in etcd.
    assert engine.done == ["start postgres postgres-2 postgres-3", "await postgres-2", "start access"]


def test_a_server_that_does_not_become_healthy_does_not_block_the_completion_of_a_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = use(monkeypatch, Engine("postgres-2", *MEMBERS))

    def fail_first(container: str, seconds: float) -> None:
        engine.healthy(container, seconds)
        if container == f"{PREFIX}-postgres":
            raise DockerError("exits each time that it is started")

    monkeypatch.setattr(servers, "wait_until_healthy", fail_first)
    said: list[str] = []
    servers.await_others(site(*REPLICAS), f"{PREFIX}-postgres-2", said.append)
    assert engine.done == ["await postgres", "await postgres-3"]
    assert said[1].startswith("warning: postgres is not healthy yet (exits each time")


@pytest.mark.parametrize(
    ("has_output", "containers", "replicas"),
    [
        (True, ("postgres",), REPLICAS),
        # A killed `up` has turned replicas on.
        (False, MEMBERS, REPLICAS),
        (False, ("postgres",), ()),
    ],
)
def test_replicas_are_known_by_the_outputs_or_by_their_containers(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    has_output: bool,
    containers: tuple[str, ...],
    replicas: tuple[str, ...],
) -> None:
    known = _known_outputs() | (
        {outputs.POSTGRES_REPLICAS: [{"host": "localhost", "port": 2}]} if has_output else {}
    )
    checkout = _use_outputs(monkeypatch, tmp_path, known, *containers)
    assert BackupSite.of(checkout, "dev").replicas == replicas


@pytest.mark.parametrize(("address", "is_refused"), [(None, False), ("10.201.7.20", True)])
def test_replicas_that_an_interrupted_up_has_retired_are_never_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str | None, is_refused: bool
) -> None:
    """Beside the single server they would be a second cluster. A member of a cluster has a fixed address."""
    known = _known_outputs() | {outputs.POSTGRES_REPLICAS: [{"host": "localhost", "port": 2}]}
    checkout = _use_outputs(monkeypatch, tmp_path, known, *MEMBERS)
    config = {"IPv4Address": address} if address else None
    found = {"Name": "/postgres", "NetworkSettings": {"Networks": {"data": {"IPAMConfig": config}}}}
    monkeypatch.setattr(site_module, "inspect", lambda *_: [found])
    assert BackupSite.of(checkout, "dev").replicas == REPLICAS
    monkeypatch.setattr(members, "docker", lambda *_, **__: "")
    monkeypatch.setattr(members, "psql", lambda *_, **__: "t")
    members.retire_replicas(checkout, "dev")
    if is_refused:
        with pytest.raises(OpsError, match="groundwork up --stack dev` to complete it") as refused:
            BackupSite.of(checkout, "dev")
        assert refused.value.exit_code == Exit.REFUSED
    else:
        assert BackupSite.of(checkout, "dev").replicas == ()


def _known_outputs() -> dict[str, Any]:
    volumes = ("image", "dataVolume", "configVolume", "repositoryVolume")
    return {
        outputs.BACKUPS: {"enabled": True, "fullDays": 7, **dict.fromkeys(volumes, "x")},
        outputs.CONTAINERS: {"postgres": f"{PREFIX}-postgres", "access": f"{PREFIX}-access"},
    }


def _use_outputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: dict[str, Any], *containers: str
) -> Checkout:
    engine = use(monkeypatch, Engine(None, *containers))
    monkeypatch.setattr(members, "inspect", engine.inspect)
    monkeypatch.setattr(site_module, "docker", lambda *_: "20.10")
    monkeypatch.setattr(site_module.ownership, "require_own", lambda *_: [])
    monkeypatch.setattr(site_module.ownership, "labels", lambda *_: {})
    monkeypatch.setattr("ops.stack.pulumi_stack.PulumiStack.known_outputs", lambda _: known)
    return Checkout(root=tmp_path, key="0a1b2c", state_dir=tmp_path, cache_dir=tmp_path)


def test_a_frozen_server_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # `backup list` then reads the repository in a container of its own.
    frozen = {"Running": True, "Paused": True}
    monkeypatch.setattr(site_module, "inspect", lambda *_: [{"Name": "/x", "State": frozen}])
    assert not site().is_running("x")
    monkeypatch.setattr(site_module, "inspect", lambda *_: [{"Name": "/x", "State": {"Running": True}}])
    assert site().is_running("x")
