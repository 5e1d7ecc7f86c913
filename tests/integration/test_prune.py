"""`groundwork prune` with a real Docker engine: the list of images is parsed, and images in use stay."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docker.engine import docker, inspect
from infra.docker_command import DOCKER_OVERRIDES
from infra.images.build import build
from infra.images.context import STAGE_LABEL
from infra.spec.checkout import Checkout
from ops.toolchain import prune
from tests.containers import LABEL
from tests.promises import promise


@pytest.fixture
def images(docker_engine: None) -> Iterator[list[str]]:
    """Four images of one kind, and a container that runs the first."""
    repository = f"groundwork-test/prune-{uuid.uuid4().hex[:8]}"
    tags = [f"{repository}:{number}" for number in range(4)]
    try:
        for tag in tags:
            docker("import", "-", tag, stdin=_archive(tag))
        docker("create", "--name", repository.rpartition("/")[2], "--label", LABEL, tags[0], "/none")
        yield tags
    finally:
        docker("rm", "--force", "--volumes", repository.rpartition("/")[2])
        docker("image", "rm", *(tag for tag in tags if inspect("image", tag)))


@promise("`prune` deletes nothing that a container, a process or a stack uses")
def test_old_images_are_deleted_unless_a_container_uses_them(
    images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "GRACE_SECONDS", 0)
    checkout = Checkout(tmp_path, "1a2b3c", tmp_path / "state" / "main", tmp_path / "cache")
    # Ignore the images of other runs.
    ours = [i for i in prune.find_items(checkout, pytest.fail) if i.name in images]
    reasons = {item.name: item.kept_because for item in ours}
    assert set(reasons) == set(images)
    assert reasons[images[0]] == "a container uses it"
    doomed = [item for item in ours if item.kept_because is None]
    # The container's image may be one of the newest two: all were made within a second.
    assert len(doomed) in (1, 2)
    assert all(item.bytes > 0 for item in doomed)
    for item in doomed:
        assert prune.delete(checkout, item) is None
    assert [tag for tag in images if not inspect("image", tag)] == sorted(item.name for item in doomed)
    (used,) = (item for item in ours if item.name == images[0])
    assert "container" in str(prune.delete(checkout, used))


@pytest.fixture
def mark(docker_engine: None) -> Iterator[str]:
    """A label for the images of one test, which are removed afterwards."""
    mark = f"groundwork-test.prune={uuid.uuid4().hex}"
    yield mark
    for image in docker("image", "ls", "--quiet", "--filter", f"label={mark}").split():
        docker("image", "rm", "--force", image)


def test_what_the_builder_leaves_of_a_stage_is_deleted(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images without groundwork's labels are never listed, and an image of a container is kept."""
    monkeypatch.setattr(prune, "GRACE_SECONDS", 0)
    monkeypatch.setitem(DOCKER_OVERRIDES, "DOCKER_BUILDKIT", "0")
    checkout = Checkout(tmp_path, "1a2b3c", tmp_path / "state" / "main", tmp_path / "cache")
    folder, tag = tmp_path / "context", f"groundwork-test/prune-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    # The stage as in infra/images/access, except that it installs nothing.
    stage = f"FROM ${{BASE}} AS installed\nLABEL {STAGE_LABEL}=1\nLABEL {mark}\nRUN echo {tag} > /file"
    (folder / "Dockerfile").write_text(
        f"ARG BASE\n{stage}\nFROM ${{BASE}}\nRUN date > /usr/share/groundwork-packages-date\n"
        "COPY --from=installed /file /file\n"
    )
    build(folder, tag)
    try:
        (left,) = docker("image", "ls", "--quiet", "--filter", f"label={mark}").split()
        foreign = _untagged(f"LABEL {mark}")
        used = _untagged(f"LABEL {mark} {STAGE_LABEL}=1")
        container = docker("create", "--label", LABEL, used, "/none").strip()
        try:
            found = {item.name: item for item in prune.find_items(checkout, pytest.fail)}
            assert foreign not in found
            assert found[used].kept_because == "a container uses it"
            assert "container" in str(prune.delete(checkout, found[used]))
        finally:
            docker("rm", "--volumes", container)
        assert found[left].kept_because is None
        assert found[left].bytes > 0
        assert prune.delete(checkout, found[left]) is None
        assert not inspect("image", left)
        # The label is not inherited by the image that was built.
        (built,) = inspect("image", tag)
        assert STAGE_LABEL not in built["Config"]["Labels"]
    finally:
        docker("image", "rm", tag)


def _untagged(change: str) -> str:
    """Import an image without a tag, and return its short id."""
    identity = docker("import", "--change", change, "-", stdin=_archive(uuid.uuid4().hex)).strip()
    return identity.removeprefix("sha256:")[:12]


def _archive(text: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()
