"""apt-get: a lock that another process holds, and packages that conflict. The machine's own apt is not run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.toolchain import apt, debian, process
from ops.toolchain.progress import ProgressStep

Program = Callable[[Path, str], Path]
Apt = Callable[..., None]
HELD = """\
E: Could not get lock /var/lib/apt/lists/lock. It is held by process 123 (apt-get)
N: Be aware that removing the lock file is not a solution and may break your system.
E: Unable to lock directory /var/lib/apt/lists/
"""
CONFLICT = "E: Packages need to be removed but remove is disabled.\n"
REMOVALS = """\
Reading package lists...
The following additional packages will be installed:
  runc tini
The following packages will be REMOVED:
{removed}
The following NEW packages will be installed:
  containerd docker.io iptables runc tini
0 upgraded, 5 newly installed, 2 to remove and 141 not upgraded.
"""
HELD_DPKG = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)\n"
HELD_OF_OLD_APT = (
    "E: Could not get lock /var/lib/apt/lists/lock - open (11: Resource temporarily unavailable)\n"
)
UNREACHABLE = "E: Failed to fetch http://deb.debian.org/x  Could not resolve 'deb.debian.org'\n"


class Step(ProgressStep):
    """A step that records what it has shown."""

    def __init__(self) -> None:
        super().__init__("Docker engine", "starting")
        self.shown: list[str] = []

    def now(self, doing: str, expected_seconds: float | None = None) -> None:
        self.shown.append(doing)
        super().now(doing, expected_seconds)


@pytest.fixture
def step() -> Step:
    return Step()


@pytest.fixture
def fails(path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> Apt:
    """Create an apt-get whose command `name` fails `times` times with these errors."""
    monkeypatch.setattr(debian, "_LISTS", path / "no-lists")
    monkeypatch.setattr(apt, "LOCK_PAUSE_SECONDS", 0.01)

    def make(name: str, errors: str, times: int, output: str = "") -> None:
        (path / "errors").write_text(errors)
        (path / "output").write_text(output)
        program(
            path / "apt-get",
            f"""\
            echo "$LC_ALL $*" >> {path}/asked
            case "$*" in *" {name}"*) ;; *) exit 0 ;; esac
            [ $(grep -c " {name}" {path}/asked) -gt {times} ] && exit 0
            cat {path}/output
            cat {path}/errors >&2
            exit 100""",
        )

    return make


def asked(path: Path) -> list[str]:
    return (path / "asked").read_text().splitlines()


@pytest.mark.parametrize(
    ("command", "errors", "holder"),
    [
        ("update", HELD, "process 123 (apt-get)"),
        ("update", HELD_OF_OLD_APT, "another process"),
        ("install", HELD_DPKG, "process 7 (unattended-upgr)"),
    ],
    ids=["lists", "lists, apt of Debian 10", "dpkg"],
)
def test_a_command_is_repeated_until_the_lock_is_free(
    path: Path, fails: Apt, step: Step, command: str, errors: str, holder: str
) -> None:
    fails(command, errors, times=3)
    debian.install(["jq"], step)
    assert [f" {command}" in line for line in asked(path)].count(True) == 4
    assert step.shown.count(f"waiting for {holder}, which uses apt") == 1


def test_a_lock_that_stays_held_is_named_without_advice_on_the_network(
    fails: Apt, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "LOCK_SECONDS", 0.3)
    fails("update", HELD, times=1_000_000)
    started = time.monotonic()
    with pytest.raises(OpsError) as refusal:
        debian.install(["jq"], step)
    assert time.monotonic() - started >= 0.3
    assert str(refusal.value) == (
        "apt-get cannot update its package lists: /var/lib/apt/lists/lock is held by process 123 (apt-get); "
        "run the same command again when that process has ended"
    )


def test_another_error_is_not_repeated(path: Path, fails: Apt, step: Step) -> None:
    fails("update", UNREACHABLE, times=1)
    with pytest.raises(OpsError, match=r"Could not resolve .*; check the network"):
        debian.install(["jq"], step)
    assert len(asked(path)) == 1


def test_the_errors_of_apt_are_in_english(
    path: Path, fails: Apt, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    fails("none", "", times=0)
    debian.install(["jq"], step)
    assert [line.split()[0] for line in asked(path)] == ["C", "C"]


@pytest.mark.parametrize(
    ("removed", "advice"),
    [
        (["containerd.io", "docker-ce-cli"], r"install Docker's own engine, .* \(docker-ce\), and run"),
        (["podman-docker"], "decide which packages to keep, and install docker.io iptables by hand"),
    ],
)
def test_a_package_that_conflicts_is_kept_and_named(
    path: Path, fails: Apt, step: Step, removed: list[str], advice: str
) -> None:
    listed = "\n".join(f"  {name}" for name in removed)
    fails("install", CONFLICT, times=1_000_000, output=REMOVALS.format(removed=listed))
    with pytest.raises(
        OpsError,
        match=f"cannot install docker.io iptables without removing {' '.join(removed)}, .*; {advice}",
    ) as refusal:
        debian.install(["docker.io", "iptables"], step)
    assert "\n" not in str(refusal.value)
    assert "--no-remove" in asked(path)[-1]
    assert len(asked(path)) == 2


def test_an_interrupted_dpkg_is_explained(path: Path, fails: Apt, step: Step) -> None:
    words = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem. \n"
    fails("install", words, times=1_000_000)
    with pytest.raises(OpsError) as refusal:
        debian.install(["jq"], step)
    assert str(refusal.value) == (
        "apt-get cannot install jq, because dpkg was interrupted before; run `dpkg --configure -a` as root, and the"
        " same command again"
    )
    assert len(asked(path)) == 2


def test_an_installation_has_no_time_limit(step: Step, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it configures packages, apt-get would leave them half configured."""
    limits: dict[str, object] = {}

    def run(command: list[str], *, timeout_seconds: float | None, can_stop: bool, **_: object) -> list[str]:
        limits["install" if "install" in command else "update"] = (timeout_seconds, can_stop)
        return []

    monkeypatch.setattr(debian, "_LISTS", path / "no-lists")
    monkeypatch.setattr(process, "run", run)
    debian.install(["jq"], step)
    assert limits == {"update": (300, True), "install": (None, False)}


def test_the_module_that_make_uses_needs_only_the_standard_library() -> None:
    root = Path(apt.__file__).parents[2]
    code = f"import sys; sys.path.append({str(root)!r}); import ops.toolchain.apt"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)
