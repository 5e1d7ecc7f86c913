"""Find both versions of a real sqlx-cli in the shared cache, or build them there with cargo.

`python -m tests` starts the build while the first tests run. A killed build continues where it stopped. The build takes
only about 3 minutes of CPU time, because it does not optimize, and has only the features that the tests need.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from infra.spec.checkout import Checkout
from ops.toolchain import process
from ops.toolchain.progress import Progress
from ops.toolchain.store import discard, exclusive, publishing

# The features of each version. The test servers accept only TLS.
FEATURES = {"0.8.6": "postgres,rustls", "0.9.0": "postgres,rustls,sqlx-toml"}
VERSIONS = tuple(FEATURES)
# `rust-version` of 0.9.0.
_NEEDED_RUST = (1, 94)
_EXPECTED_SECONDS = 90.0
# Debug information and incremental builds would only cost time and space.
_PROFILE = {"CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_PROFILE_DEV_STRIP": "symbols", "CARGO_INCREMENTAL": "0"}


@dataclass(frozen=True)
class Sqlx:
    """sqlx-cli with one database and one folder."""

    program: Path
    url: str
    folder: Path

    def run(self, target: int | None = None, *options: str) -> subprocess.CompletedProcess[str]:
        return self._call("run", *([] if target is None else ["--target-version", str(target)]), *options)

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


def sqlx_program(version: str) -> Path:
    """Return the path of sqlx-cli. Skips the test without a current cargo, and fails it if cargo fails in CI."""
    program = _program(version)
    if program.exists():
        return program
    if (missing := missing_cargo()) is not None:
        pytest.skip(missing)
    if (failure := _failed_build()) is not None:
        if os.environ.get("CI"):
            pytest.fail(failure)
        pytest.skip(failure)
    return program


def missing_cargo() -> str | None:
    """Return why sqlx-cli cannot be built here, and what to do, or None."""
    needed = ".".join(map(str, _NEEDED_RUST))
    instead = "so no real sqlx-cli is run, only compared with its golden files"
    if shutil.which("cargo") is None:
        return f"cargo is not installed, {instead}; install Rust {needed} or newer (https://rustup.rs)"
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"cargo (\d+)\.(\d+)", said)
    if match is None or tuple(map(int, match.groups())) < _NEEDED_RUST:
        return f"{said.strip() or 'cargo'} is too old, {instead}; install Rust {needed} or newer (https://rustup.rs)"
    return None


def build_all(progress: Progress) -> None:
    """Build the versions that the cache lacks. Waits for another process that builds them. Raises CommandFailed."""
    cache = Checkout.here().cache_dir
    with exclusive(cache, "sqlx-cli", lambda holder: progress.say(f"sqlx-cli: waiting for {holder}")):
        for version in VERSIONS:
            if not _program(version).exists():
                with publishing(_root(version)) as draft:
                    _build(version, draft, progress)
        # Both versions share most of their dependencies.
        discard(_target())


@functools.cache
def _failed_build() -> str | None:
    """Build, once in this process, and return why that failed, or None."""
    try:
        build_all(Progress(Console(stderr=True, force_terminal=False)))
    except process.CommandFailed as error:
        return (
            f"cannot build sqlx-cli: {error}; run `python -m tests.integration.migrator.sqlx_cli` to see why"
        )
    return None


def _build(version: str, root: Path, progress: Progress) -> None:
    command = ["cargo", "install", "sqlx-cli", "--version", version, "--locked", "--debug", "--bin", "sqlx"]
    command += ["--no-default-features", "--features", FEATURES[version], "--root", str(root)]
    environment = os.environ | _PROFILE | {"CARGO_TARGET_DIR": str(_target())}
    with progress.step(f"sqlx-cli {version}", "building", _EXPECTED_SECONDS) as step:
        process.run(command, env=environment, on_line=_counting(step.count))


def _counting(count: Callable[[int, int | None, str], None]) -> Callable[[str], None]:
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        if line.strip().startswith("Compiling"):
            done += 1
            count(done, None, "packages")

    return on_line


def _root(version: str) -> Path:
    return Checkout.here().cache_dir / "sqlx-cli" / version


def _program(version: str) -> Path:
    return _root(version) / "bin" / "sqlx"


def _target() -> Path:
    return Checkout.here().cache_dir / "sqlx-cli" / "target"


def main() -> int:
    """Build both versions. Prints one line if that is not possible or fails, because the tests report it again."""
    # With the default action, cargo would continue without this process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    progress = Progress(Console(stderr=True, force_terminal=False))
    if all(_program(version).exists() for version in VERSIONS):
        return 0
    if (missing := missing_cargo()) is not None:
        progress.say(f"sqlx-cli: {missing}")
        return 0
    try:
        build_all(progress)
    except process.CommandFailed as error:
        progress.say(f"sqlx-cli: cannot build it: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
