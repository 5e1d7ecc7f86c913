"""`make screenshots` refuses in one line what it cannot do, and its pictures are small."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.screenshots import __main__ as screenshots


def test_without_a_browser_it_names_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert screenshots.main() == 1
    assert capsys.readouterr().err == (
        "screenshots: no Chromium or Chrome is on PATH; on Debian, install the package chromium\n"
    )


def test_an_existing_stack_of_that_name_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(screenshots, "ROOT", tmp_path)
    settings = tmp_path / "Pulumi.demo.yaml"
    settings.write_text("config: {}\n")
    assert screenshots.main() == 1
    assert "Pulumi.demo.yaml exists" in capsys.readouterr().err
    assert settings.read_text() == "config: {}\n"


def test_each_picture_has_at_most_200_kb() -> None:
    pictures = {path.name: path.stat().st_size for path in screenshots.IMAGES.glob("*.png")}
    assert pictures.keys() == {"report.png", "prometheus.png"}
    assert [name for name, size in pictures.items() if size > 200_000] == []
