"""The Docker engine: asked, started where it is installed, installed where we may. Never one named by DOCKER_HOST.

An engine that answers is left as it is. What runs in it is not this module's business.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.toolchain import debian, process, store
from ops.toolchain.inventory import Source, Tool
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, clock

NAME = "Docker engine"
ANSWER_SECONDS = 10
START_SECONDS = 60
INSTALLED_PATH = "/usr/sbin:/sbin:/usr/local/sbin"


class NoEngineError(OpsError):
    """No Docker engine answers, and we cannot change that."""

    exit_code = Exit.UNREACHABLE


@dataclass(frozen=True)
class Engine:
    """An engine that answers; `arch` in Docker's words (amd64, arm64)."""

    version: str
    arch: str

    def tool(self, source: Source) -> Tool:
        where = os.environ.get("DOCKER_HOST") or "the docker command's context"
        return Tool(NAME, self.version, source, f"{where} ({self.arch})")


def answering() -> Engine | str:
    """The engine, or in one clause why there is none."""
    command = ["docker", "version", "--format", "{{.Server.Version}} {{.Server.Arch}}"]
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    try:
        version, arch = process.run(command, timeout_seconds=ANSWER_SECONDS)[0].split()
    except CommandFailed as error:
        said = error.tail[-1] if error.tail else str(error)
        return "no engine answers" if "Is the docker daemon running" in said else said
    except (IndexError, ValueError):
        return "`docker version` names no engine"
    return Engine(version, arch)


def ensure(world: World, progress: Progress) -> tuple[Engine, Tool]:
    """An engine that answers. Raises NoEngineError: what to install, or what the engine said as it failed."""
    engine = answering()
    if isinstance(engine, Engine):
        return engine, engine.tool(Source.FOUND)
    _refuse_what_is_not_ours(engine)
    with store.exclusive(
        world.cache_dir,
        "docker-engine",
        lambda who: progress.say(f"{NAME}: waiting for {who}, which starts it"),
    ):
        # Started by the process we waited for, it answers now.
        engine, source = answering(), Source.STARTED
        if isinstance(engine, str):
            with progress.step(NAME, "starting") as step:
                if missing := missing_packages():
                    debian.install(missing, step)
                    source = Source.INSTALLED
                # A package's own start script may have started it already.
                engine = answering()
                if isinstance(engine, str):
                    step.now("starting")
                    engine = _start(world)
                step.doing = str(source)
        return engine, engine.tool(source)


def missing_packages() -> list[str]:
    """Debian's packages for what is not here: a docker command alone is not an engine."""
    wanted = []
    if _which("dockerd") is None:
        wanted.append("docker.io")
    if _which("iptables") is None:
        wanted.append("iptables")
    # Debian 13 splits the command off.
    if shutil.which("docker") is None and wanted[:1] == ["docker.io"] and debian.offers("docker-cli"):
        wanted.append("docker-cli")
    return wanted


def _refuse_what_is_not_ours(problem: str) -> None:
    if host := os.environ.get("DOCKER_HOST"):
        raise NoEngineError(
            f"no Docker engine answers at DOCKER_HOST={host} ({problem}); start it, or unset it"
        )
    if "permission denied" in problem.lower():
        raise NoEngineError(
            "this user may not reach the Docker engine; `sudo usermod -aG docker $USER`, then log in again"
        )
    if sys.platform != "linux":
        raise NoEngineError(f"no Docker engine ({problem}); install and start Docker Desktop or colima")
    if os.geteuid() != 0:
        how = (
            "start it"
            if _which("dockerd")
            else "install it (on Debian: `sudo apt-get install docker.io iptables`)"
        )
        raise NoEngineError(f"no Docker engine ({problem}), and only root can change that; {how}")
    if missing_packages() and not debian.can_install():
        raise NoEngineError(
            f"no Docker engine ({problem}), and this is not Debian; install Docker by hand, as your system does it"
        )


def _start(world: World) -> Engine:
    """Start dockerd so that it outlives us, and wait until it answers."""
    if has_systemd():
        try:
            process.run(["systemctl", "start", "docker"], timeout_seconds=START_SECONDS)
        except CommandFailed as error:
            raise NoEngineError(
                f"`systemctl start docker` failed ({error}); see `journalctl -u docker`"
            ) from error
        return _await(None, Path("/dev/null"))
    command = _which("dockerd")
    if command is None:
        raise NoEngineError("dockerd is not installed, and was expected in docker.io; install Docker by hand")
    log = world.cache_dir / "dockerd.log"
    with log.open("ab") as opened:
        started = subprocess.Popen(
            [command],
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
            cwd="/",
            env=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{INSTALLED_PATH}"},
            # A session of its own: it must not end with the terminal that `make up` was typed into.
            start_new_session=True,
        )
    return _await(started, log)


def _await(started: subprocess.Popen[bytes] | None, log: Path) -> Engine:
    deadline = time.monotonic() + START_SECONDS
    problem = "it did not answer"
    while time.monotonic() < deadline:
        engine = answering()
        if isinstance(engine, Engine):
            return engine
        problem = engine
        if started is not None and started.poll() is not None:
            problem = f"dockerd ended with exit code {started.returncode}"
            break
        time.sleep(0.3)
    else:
        problem = f"{problem} within {clock(START_SECONDS)}"
    if started is not None and started.poll() is None:
        started.terminate()
    raise NoEngineError(f"the Docker engine cannot be started: {problem}{_last_words(log)}; see {log}")


def _last_words(log: Path) -> str:
    """Why dockerd ended, out of a log in which that stands among much else."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-40:]
    except OSError:
        return ""
    telling = [line for line in lines if re.search("failed to start|level=(error|fatal)", line)]
    words = " | ".join((telling or lines)[-2:])
    return f" ({words[-500:]})" if words else ""


def has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _which(command: str) -> str | None:
    """Where a program is, also where the administrator's folders are not on PATH (Debian's `su`)."""
    return shutil.which(command) or shutil.which(command, path=INSTALLED_PATH)


def host_arch() -> str:
    """This machine's architecture in Docker's words."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
