"""Build contexts: their digest changes with what an image holds, and with nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from infra.images import context
from infra.spec.errors import InfraError
from infra.spec.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return replace(World.here(), cache_dir=tmp_path / "cache")


@pytest.fixture
def entries(tmp_path: Path) -> dict[Path, Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a.txt", "b.sh"):
        (folder / name).write_text(name)
    (folder / "b.sh").chmod(0o700)
    return {Path("a.txt"): folder / "a.txt", Path("bin/b.sh"): folder / "b.sh"}


def test_a_context_holds_names_modes_and_bytes(world: World, entries: dict[Path, Path]) -> None:
    path, digest = context.assemble(world, entries)
    assert path.name == digest
    assert (path / "a.txt").read_text() == "a.txt"
    assert (path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (path / "bin/b.sh").stat().st_mode & 0o777 == 0o755


def test_the_same_content_is_the_same_context(world: World, entries: dict[Path, Path]) -> None:
    first = context.assemble(world, entries)
    os.utime(entries[Path("a.txt")], (0, 0))
    entries[Path("a.txt")].chmod(0o600)
    assert context.assemble(world, dict(reversed(entries.items()))) == first


@pytest.mark.parametrize("change", ["bytes", "mode", "name"])
def test_a_change_is_another_context(world: World, entries: dict[Path, Path], change: str) -> None:
    _, before = context.assemble(world, entries)
    if change == "bytes":
        entries[Path("a.txt")].write_text("other")
    elif change == "mode":
        entries[Path("a.txt")].chmod(0o755)
    else:
        entries[Path("c.txt")] = entries.pop(Path("a.txt"))
    assert context.assemble(world, entries)[1] != before


def test_a_cache_that_cannot_be_written_is_told(world: World, entries: dict[Path, Path]) -> None:
    world.cache_dir.write_text("a file where the folder should be")
    with pytest.raises(InfraError, match="cannot assemble the build context"):
        context.assemble(world, entries)


def test_nothing_half_made_is_left_where_assembling_fails(
    world: World, entries: dict[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(InfraError, match="No space left on device"):
        context.assemble(world, entries)
    assert list((world.cache_dir / "contexts").iterdir()) == []


def test_the_access_image_holds_what_it_runs_and_no_more(tmp_path: Path, world: World) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "x.whl").write_text("")
    names = {name.as_posix() for name, _ in context._access_entries(world.root, wheels)}
    assert {"Dockerfile", "requirements.lock", "wheels/x.whl", "groundwork", "groundwork-health"} <= names
    assert {"source/db/_async/users.py", "source/db/queries/users.sql", "source/ops/serve/app.py"} <= names
    assert any(name.startswith("source/db/migrations/") for name in names)
    assert not any("toolchain" in name or "__pycache__" in name for name in names)
    assert not any(name.startswith("source/infra/docker") for name in names)


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_an_image_of_one_folder_is_its_own_context(name: str) -> None:
    folder, digest = context.image_context(name)
    assert (folder / "Dockerfile").is_file()
    assert len(digest) == 64


def test_an_unknown_image_is_refused() -> None:
    with pytest.raises(InfraError, match="no image 'mysql'"):
        context.image_context("mysql")
