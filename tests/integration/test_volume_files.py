"""Files that are put into a volume by a container: nothing stays behind but the volume."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from infra.docker import engine
from infra.docker.engine import File, docker, inspect, replace_files, write_files
from tests.containers import LABEL, build_image

# Of the images that have files, both declare a volume of their own.
IMAGES = ("postgres", "redis")


@pytest.fixture
def volume(docker_engine: None) -> Iterator[str]:
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", "--label", LABEL, name)
    yield name
    docker("volume", "rm", name)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The volumes that the containers had, when they were removed."""
    names: set[str] = set()
    remove = engine.remove_container

    def look(name: str) -> None:
        for container in inspect("container", name):
            names.update(mount["Name"] for mount in container["Mounts"])
        remove(name)

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
