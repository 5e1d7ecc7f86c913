"""`make sbom` lists every image that groundwork builds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.images.context import IMAGES
from infra.settings import DOCKER
from scripts.supply_chain import sbom, tools


def test_every_image_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed: list[str] = []

    def of_image(_: Path, image: str) -> Path:
        listed.append(image)
        return tools.ROOT / image

    settings = SimpleNamespace(target=DOCKER, image_refresh="")
    monkeypatch.setattr(sbom, "PulumiStack", lambda *_: SimpleNamespace(check_settings=lambda: settings))
    monkeypatch.setattr(tools, "install", lambda: tmp_path)
    monkeypatch.setattr(sbom, "FOLDER", tmp_path)
    monkeypatch.setattr(sbom, "image_context", lambda _, image, __: image)
    monkeypatch.setattr(sbom, "of_image", of_image)
    monkeypatch.setattr(sbom, "_written", lambda name, _: tools.ROOT / name)
    assert sbom.main(["dev"]) == 0
    # Also those that are not part of a stack, or only of a stack with replicas.
    assert {"access", "chaos", "etcd", "patroni"} <= set(listed)
    assert sorted(listed) == sorted(path.name for path in IMAGES.iterdir() if (path / "Dockerfile").is_file())
