"""The members of a cluster: which one is the primary, and what `up` refuses before it changes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.certificates import make_authority, make_server_certificate
from infra.docker import members
from infra.docker.engine import MOST_STOP_SECONDS, DockerError
from infra.docker.members import (
    ClusterState,
    NoPrimary,
    forget_retirement,
    observe,
    primary_container,
    retire_replicas,
    retired_replicas,
    stack_of,
)
from infra.spec import postgres_cluster
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from tests.promises import promise

PREFIX = "gw-0a1b2c-dev-"
SUBNET = "10.201.7.0/24"


class Engine:
    """Containers by name, with the answer to `is the primary`, or None if the server does not answer."""

    def __init__(self, **primaries: bool | None) -> None:
        self.answers = {PREFIX + name.replace("_", "-"): answer for name, answer in primaries.items()}
        self.stopped: tuple[str, ...] = ()
        self.volumes: set[str] = set()
        self.expired: tuple[str, ...] = ()

    def inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        if kind == "network":
            return [{"IPAM": {"Config": [{"Subnet": SUBNET}]}}]
        if kind == "volume":
            return [{"Name": name} for name in names if name in self.volumes]
        return [
            {"Name": f"/{name}", "State": {"Running": name not in self.stopped}}
            for name in names
            if name in self.answers
        ]

    def psql(self, container: str, *_: Any, **__: Any) -> str:
        answer = self.answers.get(container)
        if answer is None:
            raise DockerError("container is paused, or does not exist")
        return "t\n" if answer else "f\n"

    def docker(self, command: str, *arguments: str, timeout_seconds: float) -> str:
        if command == "cp":
            return self.certificate(arguments[0].partition(":")[0].removeprefix(PREFIX))
        assert command == "stop", command
        assert timeout_seconds > MOST_STOP_SECONDS
        self.stopped = arguments
        return ""

    def certificate(self, name: str) -> str:
        if name not in self.expired:
            raise DockerError("no such container")
        pair = make_server_certificate(make_authority("unit"), [name], -1)
        # Like the head of a tar archive.
        return f"server.crt\0\x30{pair.certificate}\0\0"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(root=tmp_path, key="0a1b2c", state_dir=tmp_path, cache_dir=tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Engine:
    for name in ("inspect", "psql", "docker"):
        monkeypatch.setattr(members, name, getattr(engine, name))
    return engine


def test_a_single_server_is_its_own_primary_without_being_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # It may be stopped: commands report that themselves.
    use(monkeypatch, Engine(postgres=None))
    assert primary_container(f"{PREFIX}postgres") == f"{PREFIX}postgres"


def test_the_primary_is_found_beside_a_frozen_member(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Engine(postgres=None, postgres_2=False, postgres_3=True))
    assert primary_container(f"{PREFIX}postgres") == f"{PREFIX}postgres-3"


def test_the_primary_is_found_when_the_first_container_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Engine(postgres_2=True, postgres_3=False))
    assert primary_container(f"{PREFIX}postgres") == f"{PREFIX}postgres-2"


def test_no_primary_is_reported_with_exit_code_6(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Engine(postgres=False, postgres_2=False, postgres_3=None))
    with pytest.raises(
        NoPrimary,
        match=r"no member of postgres, postgres-2, postgres-3 is the primary; .* status --stack dev`",
    ) as refused:
        primary_container(f"{PREFIX}postgres", wait_seconds=0)
    assert refused.value.exit_code == 6


def test_the_stack_of_a_member_is_read_from_the_name_of_its_container(checkout: Checkout) -> None:
    for stack in ("dev", "prod-eu", "a-postgres", "postgres-2"):
        for member in postgres_cluster.MEMBERS:
            assert stack_of(checkout.name(stack, member)) == stack


def test_a_command_of_patroni_that_does_not_end_names_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    def docker(*_: str, **__: object) -> str:
        raise DockerError("`docker exec` failed: exit status 124")

    monkeypatch.setattr(members, "docker", docker)
    with pytest.raises(DockerError, match=r"did not end .*`groundwork doctor --stack prod-eu`"):
        members.patronictl("gw-0a1b2c-prod-eu-postgres-3", "list")


def _observe(checkout: Checkout, replicas: int, subnet: str = SUBNET) -> ClusterState:
    return observe(checkout, "dev", replicas=replicas, subnet=subnet)


def test_an_up_of_a_single_server_asks_no_server(monkeypatch: pytest.MonkeyPatch, checkout: Checkout) -> None:
    use(monkeypatch, Engine(postgres=None))
    assert _observe(checkout, 0) == _observe(checkout, 2) == ClusterState()


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
@pytest.mark.parametrize("primary", ["postgres_2", "postgres_3"])
def test_replicas_are_not_turned_off_while_another_member_is_the_primary(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, primary: str
) -> None:
    servers = {"postgres": False, "postgres_2": False, "postgres_3": False} | {primary: True}
    use(monkeypatch, Engine(**servers))
    with pytest.raises(NoPrimary, match=r"switchover --to postgres --stack dev") as refused:
        _observe(checkout, 0)
    assert "\n" not in str(refused.value)
    # Keeping them is accepted.
    assert _observe(checkout, 2).primary == primary.replace("_", "-")


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
@pytest.mark.parametrize(
    "left",
    [{}, {"postgres": None}, {"postgres": False}],
    ids=["after a down", "only the first one, stopped", "only the first one, a replica"],
)
def test_replicas_are_not_turned_off_while_the_last_primary_is_unknown(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, left: dict[str, bool | None]
) -> None:
    """The controls are a first server that is the primary, a stack that never had replicas, and keeping them."""
    engine = use(monkeypatch, Engine(**left))
    engine.volumes = {f"{PREFIX}postgres-data", f"{PREFIX}postgres-2-data"}
    with pytest.raises(NoPrimary, match="first set it to 2, run `groundwork up --stack dev`, and move"):
        _observe(checkout, 0)
    assert _observe(checkout, 2) == ClusterState()
    engine.answers[f"{PREFIX}postgres"] = True
    assert _observe(checkout, 0) == ClusterState()
    engine = use(monkeypatch, Engine(**left))
    engine.volumes = {f"{PREFIX}postgres-data"}
    assert _observe(checkout, 0) == ClusterState()


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_turning_replicas_off_is_continued_without_the_first_container(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    """An `up` that is killed while it replaces the first server leaves the replicas stopped."""
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    assert retired_replicas(checkout, "dev") == []
    retire_replicas(checkout, "dev")
    engine.answers = {f"{PREFIX}postgres-2": None, f"{PREFIX}postgres-3": None}
    assert _observe(checkout, 0) == ClusterState(exists=True, primary="postgres")
    assert retired_replicas(checkout, "dev") == [f"{PREFIX}postgres-2", f"{PREFIX}postgres-3"]
    # If the replicas are kept after all, they may be promoted, and the first server's data may be too old.
    forget_retirement(checkout, "dev")
    with pytest.raises(NoPrimary, match="has no primary"):
        _observe(checkout, 0)


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_replicas_that_an_interrupted_stop_has_left_running_are_asked_for_the_primary(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    """Such a replica may become the primary, and the next `up` would delete its newer data."""
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))

    def interrupt(*_: str, timeout_seconds: float) -> str:
        raise DockerError("`docker stop` did not finish")

    monkeypatch.setattr(members, "docker", interrupt)
    with pytest.raises(DockerError, match="did not finish"):
        retire_replicas(checkout, "dev")
    # So the next `up` starts them again.
    assert retired_replicas(checkout, "dev") == []
    engine.answers |= {f"{PREFIX}postgres": None, f"{PREFIX}postgres-3": True}
    with pytest.raises(NoPrimary, match="while postgres-3 is the primary"):
        _observe(checkout, 0)


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_a_retired_replica_that_runs_again_is_asked_for_the_primary(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    retire_replicas(checkout, "dev")
    engine.stopped = (f"{PREFIX}postgres", f"{PREFIX}postgres-2")
    engine.answers |= {f"{PREFIX}postgres": None, f"{PREFIX}postgres-3": True}
    with pytest.raises(NoPrimary, match="while postgres-3 is the primary"):
        _observe(checkout, 0)


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
@pytest.mark.parametrize("first", [False, None], ids=["is a replica", "does not answer"])
def test_an_old_mark_does_not_prove_that_the_first_server_is_the_primary_if_a_replica_runs_again(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, first: bool | None
) -> None:
    """The controls are the continued stop, and a replica that runs again beside the primary."""
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    retire_replicas(checkout, "dev")
    engine.answers[f"{PREFIX}postgres"] = None
    assert retire_replicas(checkout, "dev")
    engine.stopped = (f"{PREFIX}postgres-2",)
    engine.answers[f"{PREFIX}postgres"] = True
    assert retire_replicas(checkout, "dev")
    engine.stopped = (f"{PREFIX}postgres-2",)
    engine.answers |= {f"{PREFIX}postgres": first, f"{PREFIX}postgres-3": True}
    with pytest.raises(NoPrimary, match="not the primary of stack 'dev' any more; run `groundwork up"):
        retire_replicas(checkout, "dev")
    # So the next `up` starts the replicas, which are stopped again.
    assert retired_replicas(checkout, "dev") == []


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_an_old_mark_is_gone_before_replicas_that_run_again_stop(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    retire_replicas(checkout, "dev")
    engine.stopped = ()

    def interrupt(*_: str, timeout_seconds: float) -> str:
        engine.stopped = (f"{PREFIX}postgres-2", f"{PREFIX}postgres-3")
        raise DockerError("`docker stop` did not finish")

    monkeypatch.setattr(members, "docker", interrupt)
    with pytest.raises(DockerError, match="did not finish"):
        retire_replicas(checkout, "dev")
    assert retired_replicas(checkout, "dev") == []


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_a_primary_that_moves_during_the_stop_is_not_deleted(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    use(monkeypatch, Engine(postgres=False, postgres_2=True, postgres_3=False))
    with pytest.raises(NoPrimary, match="not the primary of stack 'dev' any more; run `groundwork up"):
        retire_replicas(checkout, "dev")
    assert retired_replicas(checkout, "dev") == []


def test_without_a_primary_nothing_is_changed(monkeypatch: pytest.MonkeyPatch, checkout: Checkout) -> None:
    stores: dict[str, bool | None] = {"etcd_1": None, "etcd_3": None}
    use(monkeypatch, Engine(postgres=False, postgres_2=None, postgres_3=False, **stores))
    for replicas in (0, 2):
        with pytest.raises(NoPrimary, match="has no primary"):
            _observe(checkout, replicas)


@pytest.mark.parametrize("answer", [None, False], ids=["no server answers", "replicas answer"])
def test_expired_certificates_are_named_as_the_reason_for_no_primary(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, answer: bool | None
) -> None:
    stores: dict[str, bool | None] = {"etcd_1": None, "etcd_2": None, "etcd_3": None}
    engine = use(monkeypatch, Engine(postgres=answer, postgres_2=None, postgres_3=None, **stores))
    engine.expired = ("postgres-2", "etcd-1")
    for call in (
        lambda: _observe(checkout, 2),
        lambda: _observe(checkout, 0),
        lambda: primary_container(f"{PREFIX}postgres", wait_seconds=0),
    ):
        with pytest.raises(NoPrimary) as refused:
            call()
        assert str(refused.value) == (
            "Postgres of stack 'dev' has no primary, because certificates have expired (postgres-2, etcd-1); run"
            " `groundwork down --stack dev`, then `groundwork up --stack dev`; the data is kept"
        )


class Etcd:
    """A cluster whose servers do not start with the settings in etcd. Some members do not reach etcd."""

    def __init__(self, engine: Engine, *isolated: str) -> None:
        self.engine, self.isolated = engine, {PREFIX + member for member in isolated}
        self.stored = "huge_pages"

    def ctl(self, container: str, command: str, *_: str, stdin: str = "", seconds: int) -> str:
        assert (command, seconds <= 15) == ("edit-config", True)
        if container in self.isolated:
            raise DockerError("did not end")
        changed, self.stored = self.stored != stdin, stdin
        if stdin == "right":
            self.engine.answers |= {f"{PREFIX}postgres-2": True}
        return "Configuration changed\n" if changed else ""


def _without_primary(monkeypatch: pytest.MonkeyPatch, *isolated: str) -> Etcd:
    stores: dict[str, bool | None] = {"etcd_1": None, "etcd_2": None, "etcd_3": None}
    engine = use(monkeypatch, Engine(postgres=None, postgres_2=None, postgres_3=None, **stores))
    etcd = Etcd(engine, *isolated)
    monkeypatch.setattr(members, "patronictl", etcd.ctl)
    return etcd


@promise("`up` corrects a parameter with which no server starts")
@pytest.mark.parametrize("isolated", [(), ("postgres",), ("postgres", "postgres-2")], ids=len)
def test_a_parameter_with_which_no_server_starts_is_corrected_in_etcd(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, isolated: tuple[str, ...]
) -> None:
    etcd = _without_primary(monkeypatch, *isolated)
    found = observe(checkout, "dev", replicas=2, subnet=SUBNET, configuration="right")
    assert (etcd.stored, found.primary) == ("right", "postgres-2")


@pytest.mark.parametrize("standby", ["postgres", "postgres-3"])
def test_the_settings_in_etcd_are_not_changed_during_a_failover(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, standby: str
) -> None:
    etcd = _without_primary(monkeypatch)
    etcd.engine.answers[PREFIX + standby] = False
    with pytest.raises(NoPrimary, match="shows a primary, and run the same command again"):
        observe(checkout, "dev", replicas=2, subnet=SUBNET, configuration="right")
    assert etcd.stored == "huge_pages"


def test_the_advice_without_a_primary_names_the_parameters(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    """The settings are not written by a preview, nor for a single server. Without etcd, they cannot be."""
    etcd = _without_primary(monkeypatch)
    advice = "correct groundwork:postgresParameters and run `groundwork up --stack dev`"
    for replicas, configuration in ((2, None), (0, "right"), (2, "huge_pages")):
        with pytest.raises(NoPrimary, match=advice) as refused:
            observe(checkout, "dev", replicas=replicas, subnet=SUBNET, configuration=configuration)
        assert "\n" not in str(refused.value)
        # Without replicas, the corrected parameter would not be written.
        first = "set groundwork:postgresReplicas back to 2, correct groundwork:postgresParameters"
        assert (first in str(refused.value)) is (replicas == 0)
        assert etcd.stored == "huge_pages"
    _without_primary(monkeypatch, *postgres_cluster.MEMBERS)
    with pytest.raises(NoPrimary, match=advice):
        observe(checkout, "dev", replicas=2, subnet=SUBNET, configuration="right")


@pytest.mark.parametrize(
    ("there", "has_stores"),
    [
        ({"postgres": False, "postgres_2": False, "postgres_3": False, "etcd_2": None}, False),
        # Only the first member can create a cluster, for example after a restore.
        ({"postgres_2": None, "postgres_3": None, "etcd_1": None, "etcd_2": None}, True),
    ],
    ids=["etcd", "the first member"],
)
def test_an_up_without_a_primary_creates_what_a_primary_needs(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, there: dict[str, bool | None], has_stores: bool
) -> None:
    use(monkeypatch, Engine(**there))
    assert _observe(checkout, 2) == ClusterState(exists=True, has_stores=has_stores)
    with pytest.raises(NoPrimary, match="has no primary"):
        _observe(checkout, 0)


@promise("the subnet changes together with turning replicas off, and not while there are replicas")
def test_the_subnet_of_a_cluster_cannot_change(monkeypatch: pytest.MonkeyPatch, checkout: Checkout) -> None:
    use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    with pytest.raises(InfraError, match=r"change from 10.201.7.0/24 to 10.9.0.0/24 .* up --stack dev`"):
        _observe(checkout, 2, "10.9.0.0/24")
    assert _observe(checkout, 2) == ClusterState(True, "postgres")


@pytest.mark.parametrize(("stores", "is_majority"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_majority_of_etcd_is_recognized(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, stores: int, is_majority: bool
) -> None:
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    engine.answers |= {f"{PREFIX}etcd-{number + 1}": None for number in range(stores)}
    assert _observe(checkout, 2).has_stores is is_majority


def test_turning_replicas_off_stops_every_other_member(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout
) -> None:
    engine = use(monkeypatch, Engine(postgres=True, postgres_2=False, postgres_3=False))
    assert retire_replicas(checkout, "dev") == [f"{PREFIX}postgres-2", f"{PREFIX}postgres-3"]
    assert engine.stopped == (f"{PREFIX}postgres-2", f"{PREFIX}postgres-3")


def test_a_cluster_changes_its_primary_last() -> None:
    assert ClusterState().order() == ["postgres", "postgres-2", "postgres-3"]
    assert ClusterState(exists=True, primary="postgres").order() == ["postgres-2", "postgres-3", "postgres"]
    assert ClusterState(exists=True, primary="postgres-2").order() == ["postgres", "postgres-3", "postgres-2"]
