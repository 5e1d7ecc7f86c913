"""A separate state and cache folder for every test, and stand-ins for programs."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.spec.checkout import Checkout
from ops.toolchain.progress import Progress


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    root.mkdir()
    return Checkout(root=root, key="abc123", state_dir=tmp_path / "state", cache_dir=tmp_path / "cache")


@pytest.fixture
def said() -> StringIO:
    return StringIO()


@pytest.fixture
def progress(said: StringIO) -> Progress:
    return Progress(Console(file=said, width=200))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH besides the system's own. Initially empty."""
    folder = tmp_path / "on-path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def program() -> Callable[[Path, str], Path]:
    """Create an executable shell script."""

    def make(path: Path, body: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return make
