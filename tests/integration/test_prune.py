"""`groundwork prune` with a real Docker engine: the list of images is parsed, and images in use stay."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docker.engine import docker, inspect
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
        docker("rm", "--force", repository.rpartition("/")[2])
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


def _archive(text: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(text.encode())
        archive.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()
