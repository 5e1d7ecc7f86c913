"""Lint the workflows with actionlint, which Go builds into the toolchain's cache.

If actionlint cannot be built, because Go or its module proxy is not available, a message is printed and the check is
skipped. With CI set, this is a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import golang, process, store, versions
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress

ROOT = Path(__file__).parents[1]
VERSION = "1.7.7"
PACKAGE = f"github.com/rhysd/actionlint/cmd/actionlint@v{VERSION}"
_BUILD_SECONDS = 600.0


def actionlint(checkout: Checkout, progress: Progress) -> Path:
    """Return the program's path. Builds it if it is not in the cache. Raises OpsError if it cannot be built."""
    folder = checkout.cache_dir / "actionlint" / f"{VERSION}-{versions.platform_name()}"
    program = folder / "actionlint"
    if program.exists():
        return program
    go = golang.find(checkout, progress)
    with store.exclusive(
        checkout.cache_dir, "actionlint", lambda who: progress.say(f"actionlint: waiting for {who}")
    ):
        if not program.exists():
            with progress.step(f"actionlint {VERSION}", "building from Go modules"):
                _build(go, folder)
    return program


def main() -> int:
    try:
        program = actionlint(Checkout.here(), Progress())
    except OpsError as error:
        if os.environ.get("CI"):
            print(f"workflows: {error}", file=sys.stderr)
            return 1
        print(f"workflows: not linted: {error}", file=sys.stderr)
        return 0
    files = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    # Without shellcheck and pyflakes, which not every machine has, so that the findings are the same everywhere. The
    # workflows contain no scripts that they could check.
    command = [str(program), "-no-color", "-shellcheck=", "-pyflakes=", *files]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _build(go: golang.Go, folder: Path) -> None:
    with store.publishing(folder) as draft:
        temporary = draft / "tmp"
        temporary.mkdir()
        env = golang.environment(temporary) | {"GOBIN": str(draft)}
        try:
            command = [str(go.command), "install", "-trimpath", PACKAGE]
            process.run(command, env=env, cwd=temporary, timeout_seconds=_BUILD_SECONDS)
        except CommandFailed as error:
            raise OpsError(
                f"cannot build actionlint {VERSION} ({error}); make the Go module proxy reachable"
            ) from error
        finally:
            store.discard(temporary)


if __name__ == "__main__":
    sys.exit(main())
