"""A real sqlx-cli: from the shared cache, or built there by cargo on request.

A build takes more than five minutes, so it is done only with SCALE=full or GROUNDWORK_BUILD_SQLX=1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from ops.toolchain.store import exclusive, publishing
from tests.scale import IS_FULL

VERSION = "0.8.6"


@dataclass(frozen=True)
class Sqlx:
    """sqlx-cli with one database and one folder."""

    program: Path
    url: str
    folder: Path

    def run(self, target: int | None = None) -> subprocess.CompletedProcess[str]:
        return self._call("run", *([] if target is None else ["--target-version", str(target)]))

    def revert(self, target: int | None = None) -> subprocess.CompletedProcess[str]:
        return self._call("revert", *([] if target is None else ["--target-version", str(target)]))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command("run"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments), capture_output=True, text=True, check=False, timeout=120
        )

    def _command(self, *arguments: str) -> list[str]:
        where = ["--no-dotenv", "--source", str(self.folder), "--database-url", self.url]
        return [str(self.program), "migrate", *arguments, *where]


def sqlx_program() -> Path:
    """Return the path of sqlx-cli. Skips the test if it is missing and a build was not requested."""
    cache = Checkout.here().cache_dir
    root = cache / "sqlx-cli" / VERSION
    program = root / "bin" / "sqlx"
    if program.exists():
        return program
    if shutil.which("cargo") is None:
        pytest.skip(
            f"no sqlx-cli {VERSION} in the cache, and no cargo to build it; the golden files stand for it"
        )
    if not (IS_FULL or os.environ.get("GROUNDWORK_BUILD_SQLX")):
        pytest.skip(
            f"no sqlx-cli {VERSION} in the cache; GROUNDWORK_BUILD_SQLX=1 builds it, and the golden files stand for it"
        )
    with exclusive(cache, "sqlx-cli", lambda _: None):
        if not program.exists():
            with publishing(root) as draft:
                _build(draft)
    return program


def _build(root: Path) -> None:
    command = ["cargo", "install", "sqlx-cli", "--version", VERSION, "--locked", "--root", str(root)]
    command += ["--no-default-features", "--features", "rustls,postgres"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
