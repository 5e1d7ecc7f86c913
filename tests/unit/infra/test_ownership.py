"""The owner of a container, network or volume: this state, an interrupted run of it, another state or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.docker import engine, ownership
from infra.docker.engine import DockerError
from infra.docker.ownership import (
    CONTAINER,
    NETWORK,
    VOLUME,
    DockerResource,
    OwnedByAnother,
    StateLost,
    adopt_volumes,
    forget_adopted,
    labels,
    remove_leftovers,
    require_own,
    state_labels,
)
from infra.spec.checkout import STATE_LABEL, Checkout
from infra.state_folder import ensure_id, id_file
from ops.backup.restore_record import RestoreRecord
from ops.errors import Exit, OpsError
from ops.stack import adoption
from ops.stack.adoption import Adoption

OTHER = "0" * 32
DATA = "gw-1a2b3c-dev-postgres-data"


class Engine:
    """Docker's resources of one stack, and the ones that were removed."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.removed: list[str] = []

    def has(
        self,
        kind: str,
        name: str,
        state: str,
        *,
        id_: str = "",
        folder: str = "/home/ann/gw/shop",
        bench: str = "",
    ) -> None:
        self.rows.append(
            (kind, id_ or name, name, state, bench, "ann" if state else "", folder if state else "")
        )

    def docker(self, *arguments: str, **_: Any) -> str:
        if arguments[1] == "rm":
            self.removed.append(arguments[-1])
            return ""
        assert arguments[1] == "ls", arguments
        return "".join("\t".join(row[1:]) + "\n" for row in self.rows if row[0] == arguments[0])

    def docker_of_adoption(self, *arguments: str, **_: Any) -> str:
        """Record what `adopt` removes: containers with one command, after they are stopped."""
        if "rm" in arguments:
            self.removed.append(arguments[-1])
        return ""


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine()
    monkeypatch.setattr(ownership, "docker", found.docker)
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, "1a2b3c", tmp_path / "state", tmp_path / "cache")


def knows(checkout: Checkout, *ids: str, **volumes: str) -> None:
    """Write Pulumi's state: containers by id, and volumes by name with their owner's label."""
    found: list[dict[str, Any]] = [{"type": "docker:index/container:Container", "id": id_} for id_ in ids]
    for name, state in volumes.items():
        given = [{"label": STATE_LABEL, "value": state}] if state else []
        found.append({"type": "docker:index/volume:Volume", "id": name, "outputs": {"labels": given}})
    file = checkout.state_file("dev")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"checkpoint": {"latest": {"resources": found}}}))


def is_refused(checkout: Checkout) -> bool:
    try:
        require_own(checkout, "dev")
    except OwnedByAnother:
        return True
    return False


@pytest.mark.parametrize("kind", [CONTAINER, NETWORK, VOLUME])
def test_resources_of_another_state_are_refused_and_own_ones_are_not(
    docker: Engine, checkout: Checkout, kind: str
) -> None:
    knows(checkout, "some container")
    docker.has(kind, "mine", ensure_id(checkout))
    assert not is_refused(checkout)
    docker.has(kind, "theirs", OTHER)
    assert is_refused(checkout)


@pytest.mark.parametrize("kind", [CONTAINER, NETWORK, VOLUME])
def test_a_state_without_an_id_owns_nothing_and_does_not_get_an_id(
    docker: Engine, checkout: Checkout, kind: str
) -> None:
    docker.has(kind, "theirs", OTHER)
    assert is_refused(checkout)
    assert not id_file(checkout).exists()


@pytest.mark.parametrize("kind", [CONTAINER, NETWORK, VOLUME])
def test_resources_of_an_earlier_version_are_refused_unless_the_state_knows_the_stack(
    docker: Engine, checkout: Checkout, kind: str
) -> None:
    docker.has(kind, DATA, "")
    assert is_refused(checkout)
    knows(checkout, "some container", **{DATA: ""})
    assert not is_refused(checkout)


def test_a_known_volume_that_another_state_created_again_is_refused(
    docker: Engine, checkout: Checkout
) -> None:
    knows(checkout, **{DATA: ensure_id(checkout)})
    docker.has(VOLUME, DATA, OTHER)
    assert is_refused(checkout)


def test_a_state_whose_id_was_lost_still_owns_what_it_knows(docker: Engine, checkout: Checkout) -> None:
    before = ensure_id(checkout)
    knows(checkout, "c1", **{DATA: before})
    docker.has(CONTAINER, "postgres", before, id_="c1")
    docker.has(VOLUME, DATA, before)
    id_file(checkout).unlink()
    assert ensure_id(checkout) != before
    assert not is_refused(checkout)


def test_an_adopted_volume_is_own_but_its_owners_containers_are_not(
    docker: Engine, checkout: Checkout
) -> None:
    docker.has(VOLUME, DATA, OTHER)
    adopt_volumes(checkout, "dev", [DockerResource(VOLUME, DATA, DATA, OTHER, False, "ann", "")])
    assert not is_refused(checkout)
    docker.has(CONTAINER, "theirs", OTHER)
    assert is_refused(checkout)
    docker.rows.pop()
    forget_adopted(checkout, "dev")
    assert is_refused(checkout)


def test_a_leftover_is_removed_but_known_resources_workbenches_and_volumes_are_kept(
    docker: Engine, checkout: Checkout
) -> None:
    own = ensure_id(checkout)
    knows(checkout, "c1")
    docker.has(CONTAINER, "postgres", own, id_="c1")
    docker.has(CONTAINER, "redis", own, id_="c2")
    docker.has(CONTAINER, "drill", own, id_="c3", bench="gw-1a2b3c-dev")
    docker.has(CONTAINER, "of-an-earlier-version", "", id_="c4")
    docker.has(NETWORK, "data", own, id_="n1")
    docker.has(VOLUME, DATA, own)
    assert remove_leftovers(checkout, "dev") == ["redis", "of-an-earlier-version", "data"]
    assert docker.removed == ["c2", "c4", "n1"]


def test_nothing_is_removed_if_another_state_owns_resources(docker: Engine, checkout: Checkout) -> None:
    docker.has(CONTAINER, "leftover", ensure_id(checkout))
    docker.has(VOLUME, DATA, OTHER)
    with pytest.raises(OwnedByAnother):
        remove_leftovers(checkout, "dev")
    assert docker.removed == []


@pytest.mark.parametrize(
    ("state", "folder", "words"),
    [
        (
            OTHER,
            "/home/ann/gw/shop",
            [
                "user ann with the state folder /home/ann/gw/shop",
                "run this as ann",
                "GROUNDWORK_STATE=/home/ann/gw;",
            ],
        ),
        (OTHER, "OWN", ["by the state that was in OWN before", "put that state back from a copy"]),
        ("", "", ["by an earlier version", "another state folder than OWN", "set GROUNDWORK_STATE"]),
    ],
    ids=["another folder", "the same folder", "earlier version"],
)
def test_a_refusal_names_the_owner_and_what_to_do(
    docker: Engine, checkout: Checkout, state: str, folder: str, words: list[str]
) -> None:
    own = str(checkout.state_dir)
    docker.has(VOLUME, DATA, state, folder=folder.replace("OWN", own))
    docker.has(CONTAINER, "gw-1a2b3c-dev-postgres", state, folder=folder.replace("OWN", own))
    with pytest.raises(OwnedByAnother) as refused:
        require_own(checkout, "dev")
    assert refused.value.exit_code == Exit.REFUSED
    said = str(refused.value)
    for each in (
        "stack 'dev'",
        "nothing was changed",
        "container gw-1a2b3c-dev-postgres and 1 more were made",
    ):
        assert each in said
    for each in words:
        assert each.replace("OWN", own) in said
    assert said.endswith("if that state is lost, run `groundwork adopt --stack dev` (docs/toolchain.md)")


def test_labels_name_the_state_its_folder_and_its_user(checkout: Checkout) -> None:
    given = state_labels(checkout)
    assert given[STATE_LABEL] == ensure_id(checkout)
    assert given[f"{STATE_LABEL}-folder"] == str(checkout.state_dir)
    assert given[f"{STATE_LABEL}-user"] == checkout.state_dir.owner()
    assert labels(checkout, "dev") == checkout.labels("dev") | given


@pytest.mark.parametrize(("label", "is_removed"), [(OTHER, False), ("mine", True), (None, True)])
def test_a_container_is_removed_by_name_unless_another_state_owns_it(
    monkeypatch: pytest.MonkeyPatch, label: str | None, is_removed: bool
) -> None:
    found = {"Id": "c1", "Config": {"Labels": {STATE_LABEL: label} if label else None}}
    removed: list[str] = []
    monkeypatch.setattr(engine, "inspect", lambda kind, name: [found])
    monkeypatch.setattr(engine, "docker", lambda *arguments: removed.append(arguments[-1]))
    if is_removed:
        engine.remove_container("name", "mine")
    else:
        with pytest.raises(DockerError, match="belongs to another state"):
            engine.remove_container("name", "mine")
    assert removed == (["c1"] if is_removed else [])


def test_a_stack_is_not_adopted_while_its_owner_exists_or_a_restore_is_unfinished(
    docker: Engine, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Checkout(checkout.root, checkout.key, checkout.root / "other" / "shop", checkout.cache_dir)
    docker.has(VOLUME, DATA, ensure_id(there), folder=str(there.state_dir))
    containers: list[object] = []
    monkeypatch.setattr(adoption, "inspect", lambda kind, name: containers)
    with pytest.raises(OpsError, match="is not lost: it is in") as refused:
        Adoption.of(checkout, "dev")
    assert refused.value.exit_code == Exit.REFUSED
    read_text = Path.read_text

    def read_own(path: Path, encoding: str) -> str:
        if path == id_file(there):
            raise PermissionError
        return read_text(path, encoding)

    # The owner's folder has mode 0700. The error is simulated, because root may read it.
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", read_own)
        with pytest.raises(OpsError, match="which this user may not read") as refused:
            Adoption.of(checkout, "dev")
    assert refused.value.exit_code == Exit.REFUSED
    id_file(there).unlink()
    containers.append({})
    with pytest.raises(OpsError, match="cannot adopt stack 'dev': a restore was interrupted") as refused:
        Adoption.of(checkout, "dev")
    assert refused.value.exit_code == Exit.REFUSED
    containers.clear()
    # After Ctrl-C only the record is left.
    checkout.stack_dir("dev").mkdir(parents=True, exist_ok=True)
    record = RestoreRecord.of_stack(checkout, "dev")
    record.write("data")
    with monkeypatch.context() as patched:
        patched.setattr("ops.backup.restore_record.inspect", lambda kind, name: [{}])
        with pytest.raises(OpsError, match="cannot adopt stack 'dev': a restore was interrupted"):
            Adoption.of(checkout, "dev")
    record.delete()
    found = Adoption.of(checkout, "dev")
    assert found is not None
    assert [each.name for each in found.data] == [DATA]


def is_lost(checkout: Checkout) -> bool:
    try:
        require_own(checkout, "dev")
    except StateLost:
        return True
    return False


@pytest.mark.parametrize("kind", [CONTAINER, VOLUME])
def test_a_missing_state_file_is_reported_and_nothing_is_removed(
    docker: Engine, checkout: Checkout, kind: str
) -> None:
    docker.has(kind, "first", ensure_id(checkout))
    docker.has(kind, "second", ensure_id(checkout))
    with pytest.raises(StateLost) as refused:
        remove_leftovers(checkout, "dev")
    assert docker.removed == []
    assert refused.value.exit_code == Exit.REFUSED
    assert str(refused.value) == (
        f"the state of stack 'dev' is lost: {checkout.state_file('dev')} is missing, but {kind} first and 1 more"
        " exist; nothing was changed; restore that file from a copy; if there is none, run `groundwork adopt --stack"
        " dev`, which keeps the data (docs/toolchain.md)"
    )


def test_containers_of_a_state_without_resources_are_not_leftovers(
    docker: Engine, checkout: Checkout
) -> None:
    """A new, empty state took the place of the lost one."""
    knows(checkout)
    docker.has(CONTAINER, "postgres", ensure_id(checkout))
    with pytest.raises(StateLost, match="has no resources, but container postgres exists"):
        remove_leftovers(checkout, "dev")
    assert docker.removed == []


def test_a_killed_first_up_leaves_leftovers_but_no_lost_state(docker: Engine, checkout: Checkout) -> None:
    """Pulumi had not recorded anything yet. Containers are created only after the volumes are recorded."""
    knows(checkout)
    docker.has(NETWORK, "data", ensure_id(checkout))
    docker.has(VOLUME, DATA, ensure_id(checkout))
    assert remove_leftovers(checkout, "dev") == docker.removed == ["data"]


def test_volumes_of_a_finished_up_are_not_used_with_new_secrets(docker: Engine, checkout: Checkout) -> None:
    """After a `down`, only volumes are left. The certificate shows that an `up` recorded its resources."""
    knows(checkout)
    docker.has(VOLUME, DATA, ensure_id(checkout))
    assert not is_lost(checkout)
    checkout.ca_file("dev").parent.mkdir(parents=True)
    checkout.ca_file("dev").write_text("certificate")
    assert is_lost(checkout)


def test_workbenches_and_adopted_volumes_do_not_need_a_state(docker: Engine, checkout: Checkout) -> None:
    own = ensure_id(checkout)
    docker.has(CONTAINER, "drill", own, bench="gw-1a2b3c-dev")
    docker.has(VOLUME, DATA, own)
    assert is_lost(checkout)
    adopt_volumes(checkout, "dev", [DockerResource(VOLUME, DATA, DATA, own, False, "ann", "")])
    assert not is_lost(checkout)


@pytest.mark.parametrize(
    "copy", ["stacks/groundwork/dev.json.bak", "backups/groundwork/dev/dev.1796145727442513208.json"]
)
def test_a_lost_state_is_restored_from_pulumis_copy(docker: Engine, checkout: Checkout, copy: str) -> None:
    knows(checkout, "c1")
    path = checkout.backend_dir / ".pulumi" / copy
    path.parent.mkdir(parents=True, exist_ok=True)
    checkout.state_file("dev").rename(path)
    docker.has(CONTAINER, "postgres", ensure_id(checkout), id_="c1")
    with pytest.raises(StateLost, match=f"copy Pulumi's last backup over it: `cp {path} "):
        require_own(checkout, "dev")


def test_a_state_that_lost_a_stack_adopts_it(
    docker: Engine, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state folder and its id exist, so that the resources belong to this state."""
    own = ensure_id(checkout)
    docker.has(CONTAINER, "postgres", own)
    docker.has(NETWORK, "data", own)
    docker.has(VOLUME, DATA, own, folder=str(checkout.state_dir))
    checkout.ca_file("dev").parent.mkdir(parents=True)
    checkout.ca_file("dev").write_text("certificate")
    monkeypatch.setattr(adoption, "inspect", lambda kind, name: [])
    monkeypatch.setattr(adoption, "docker", docker.docker_of_adoption)
    found = Adoption.of(checkout, "dev")
    assert found is not None
    assert found.adopt(lambda line: None) is None
    assert docker.removed == ["postgres", "data"]
    docker.rows = [row for row in docker.rows if row[0] == VOLUME]
    assert not is_lost(checkout)
    assert Adoption.of(checkout, "dev") is None


def test_a_state_that_knows_a_stack_has_nothing_to_adopt(docker: Engine, checkout: Checkout) -> None:
    knows(checkout, "c1")
    docker.has(CONTAINER, "leftover", ensure_id(checkout))
    assert Adoption.of(checkout, "dev") is None
