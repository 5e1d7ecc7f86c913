"""A release of the Terraform provider is installed only if its files are those of the pinned version."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.toolchain import versions
from tests.infra.aws_provider import provider


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUNDWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(versions, "platform_name", lambda: "linux-amd64")
    return tmp_path / "cache" / "aws-provider"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (None, "is not a directory; name the folder"),
        ({"terraform-provider-aws_v5.100.0_x5": "another"}, "have the checksum h1:"),
        ({}, "have the checksum h1:"),
    ],
    ids=["no folder", "other content", "empty folder"],
)
def test_another_release_is_refused_in_one_line(
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str] | None,
    says: str,
) -> None:
    release = tmp_path / "release"
    if files is not None:
        release.mkdir()
        for name, content in files.items():
            (release / name).write_text(content)
    assert provider.main([str(release)]) == 1
    said = capsys.readouterr().err
    assert says in " ".join(said.split())
    assert list(cache.iterdir()) == []
    assert provider.find() is None


def test_a_platform_without_a_checksum_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "platform_name", lambda: "plan9-arm64")
    assert provider.main([]) == 1
    assert "no checksum of the Terraform provider for plan9-arm64" in " ".join(
        capsys.readouterr().err.split()
    )
    assert not cache.exists()


def test_checksum_equals_terraforms(tmp_path: Path) -> None:
    """The digest covers names and contents, in the order of the names (`h1` in Terraform's lock files)."""
    (tmp_path / "b.txt").write_text("two\n")
    (tmp_path / "a.txt").write_text("one\n")
    assert provider.checksum(tmp_path) == "h1:DbWjT9wc0PpMxpMhB9wMbFDvGfq8B27pfhLrqzI1wGM="
