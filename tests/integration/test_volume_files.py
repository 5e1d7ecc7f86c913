"""Files that a container writes into a volume."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from infra.docker import engine
from infra.docker.engine import File, docker, inspect, replace_files, write_files
from infra.docker.files import VolumeFilesProvider
from tests.containers import LABEL, build_image
from tests.promises import promise

# Both images declare a volume.
IMAGES = ("postgres", "redis")


@pytest.fixture
def volume(docker_engine: None) -> Iterator[str]:
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", "--label", LABEL, name)
    yield name
    docker("volume", "rm", name)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The volumes of the containers at the time when these were removed."""
    names: set[str] = set()
    remove = engine.remove_container

    def look(name: str, state: str) -> None:
        for container in inspect("container", name):
            names.update(mount["Name"] for mount in container["Mounts"])
        remove(name, state)

    monkeypatch.setattr(engine, "remove_container", look)
    return names


@pytest.mark.parametrize("image", IMAGES)
def test_the_images_own_volumes_go_with_the_container(volume: str, mounted: set[str], image: str) -> None:
    built = build_image(image)
    write_files(volume, built, {"a": File("old", 0, 0)})
    replace_files(volume, built, {"a": File("new", 0, 0)})
    nameless = mounted - {volume}
    assert nameless
    assert inspect("volume", *nameless) == []
    assert len(inspect("volume", volume)) == 1


@promise("`up` restores what somebody removed from Docker")
def test_files_are_written_again_only_into_a_volume_that_was_created_again(volume: str) -> None:
    provider = VolumeFilesProvider()
    inputs = {
        "volume": volume,
        "image": build_image("redis"),
        "uid": 0,
        "mode": 0o400,
        "files": {"a": "text"},
    }
    state = provider.create(inputs).outs
    mount = ("--volume", f"{volume}:/mnt:ro")
    docker("run", "--rm", "--init", "--user=0", *mount, "--entrypoint", "cat", str(inputs["image"]), "/mnt/a")
    assert not provider.diff(volume, state, inputs).changes
    docker("volume", "rm", volume)
    assert provider.diff(volume, state, inputs).changes
    # Docker's timestamps are whole seconds.
    time.sleep(1)
    docker("volume", "create", "--label", LABEL, volume)
    assert provider.diff(volume, state, inputs).changes
    state = provider.update(volume, state, inputs).outs
    assert not provider.diff(volume, state, inputs).changes
