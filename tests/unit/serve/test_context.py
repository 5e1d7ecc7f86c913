"""Build contexts: their digest depends only on the content of the image."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from infra.images import context
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from tests.cases import in_case
from tests.promises import promise


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return replace(Checkout.here(), cache_dir=tmp_path / "cache")


@pytest.fixture
def entries(tmp_path: Path) -> dict[Path, Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("a.txt")
    (folder / "b.sh").write_text("#!/bin/sh\n")
    return {Path("a.txt"): folder / "a.txt", Path("bin/b.sh"): folder / "b.sh"}


def test_a_context_contains_names_modes_and_bytes(checkout: Checkout, entries: dict[Path, Path]) -> None:
    path, digest = context.assemble(checkout, entries)
    assert path.name == digest
    assert (path / "a.txt").read_text() == "a.txt"
    assert (path / "a.txt").stat().st_mode & 0o777 == 0o644
    assert (path / "bin/b.sh").stat().st_mode & 0o777 == 0o755


def test_the_same_content_has_the_same_digest(checkout: Checkout, entries: dict[Path, Path]) -> None:
    first = context.assemble(checkout, entries)
    os.utime(entries[Path("a.txt")], (0, 0))
    entries[Path("a.txt")].chmod(0o600)
    assert context.assemble(checkout, dict(reversed(entries.items()))) == first


@promise("neither a umask nor the modes of a checkout change an image")
@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
@pytest.mark.parametrize("modes", [(0o700, 0o600, 0o700), (0o775, 0o664, 0o664), (0o777, 0o777, 0o777)])
def test_file_modes_of_the_checkout_and_the_umask_do_not_matter(
    checkout: Checkout, entries: dict[Path, Path], umask: int, modes: tuple[int, int, int]
) -> None:
    first, digest = context.assemble(checkout, entries)
    expected = {path.relative_to(first): path.stat().st_mode for path in (first, *first.rglob("*"))}
    folder, text, script = modes
    entries[Path("a.txt")].parent.chmod(folder)
    entries[Path("a.txt")].chmod(text)
    entries[Path("bin/b.sh")].chmod(script)
    before = os.umask(umask)
    try:
        second, again = context.assemble(replace(checkout, cache_dir=checkout.cache_dir / "other"), entries)
    finally:
        os.umask(before)
    assert again == digest
    assert {
        path.relative_to(second): path.stat().st_mode for path in (second, *second.rglob("*"))
    } == expected


@pytest.mark.parametrize("change", ["bytes", "name"])
def test_a_change_has_another_digest(checkout: Checkout, entries: dict[Path, Path], change: str) -> None:
    _, before = context.assemble(checkout, entries)
    if change == "bytes":
        entries[Path("a.txt")].write_text("other")
    else:
        entries[Path("c.txt")] = entries.pop(Path("a.txt"))
    assert context.assemble(checkout, entries)[1] != before


def test_an_unwritable_cache_is_reported(checkout: Checkout, entries: dict[Path, Path]) -> None:
    checkout.cache_dir.write_text("a file where the folder should be")
    with pytest.raises(InfraError, match="cannot assemble the build context"):
        context.assemble(checkout, entries)


def test_a_failed_assembly_leaves_no_partial_folder(
    checkout: Checkout, entries: dict[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", refuse)
    with pytest.raises(InfraError, match="No space left on device"):
        context.assemble(checkout, entries)
    assert list((checkout.cache_dir / "contexts").iterdir()) == []


def test_the_access_image_contains_exactly_what_it_runs(tmp_path: Path, checkout: Checkout) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "x.whl").write_text("")
    names = {name.as_posix() for name, _ in context._access_entries(checkout.root, wheels)}
    assert {"Dockerfile", "requirements.lock", "wheels/x.whl", "groundwork", "groundwork-health"} <= names
    assert {"source/db/_async/users.py", "source/db/queries/users.sql", "source/ops/serve/app.py"} <= names
    assert any(name.startswith("source/db/migrations/") for name in names)
    assert not any("toolchain" in name or "__pycache__" in name for name in names)
    assert not any(name.startswith("source/infra/docker") for name in names)


@pytest.mark.parametrize("image", ["postgres", "redis", "monitoring"])
def test_an_image_of_one_folder_needs_only_that_folder(checkout: Checkout, image: str) -> None:
    found = context.image_context(checkout, image)
    assert (found.folder / "Dockerfile").is_file()
    assert found.tag == f"groundwork/{image}:{found.digest[:16]}"
    scripts = [path for path in found.folder.iterdir() if path.read_text().startswith("#!")]
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in scripts)


def test_an_unknown_image_is_refused(checkout: Checkout) -> None:
    with pytest.raises(InfraError, match="no image 'mysql'"):
        context.image_context(checkout, "mysql")


def test_a_refresh_changes_the_tag_of_an_image(checkout: Checkout) -> None:
    first = context.image_context(checkout, "redis")
    again = context.image_context(checkout, "redis", "2026-11-30")
    assert first.tag != again.tag
    assert again == context.image_context(checkout, "redis", "2026-11-30")


@promise("the base image is pulled by its digest")
def test_every_image_is_built_from_the_pinned_base_with_current_packages() -> None:
    cases: list[str] = ["access", "etcd", "monitoring", "patroni", "postgres", "redis"]
    for image in cases:
        with in_case(image):
            text = (context.IMAGES / image / "Dockerfile").read_text()
            froms = [line for line in text.splitlines() if line.startswith("FROM")]
            assert all(line.split()[1] == "${BASE}" for line in froms)
            final = text[text.rindex("FROM ${BASE}") :]
            # An ARG after the command would not make the engine run it again.
            assert final.index("ARG REFRESH") < final.index("RUN ") < final.index("apt-get upgrade")
            assert context.BASE_REFERENCE.partition("@sha256:")[2].isalnum()
