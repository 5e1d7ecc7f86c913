"""The Docker engine: found, started if it is installed, or installed if this process is root on Debian.

An engine that answers is used as it is. An engine selected by DOCKER_HOST or a context is never started, installed or
replaced by the machine's own.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.docker.engine import SERVER_COMMAND, NotDockerError, parse_server
from infra.docker_command import docker_config, read_object
from infra.spec.checkout import Checkout
from infra.spec.variables import variable
from ops.errors import Exit, OpsError
from ops.toolchain import debian, process, store
from ops.toolchain.inventory import Tool, ToolSource
from ops.toolchain.process import CommandFailed
from ops.toolchain.progress import Progress, clock

NAME = "Docker engine"
ANSWER_SECONDS = 10
START_SECONDS = 60
INSTALLED_PATH = "/usr/sbin:/sbin:/usr/local/sbin"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# These files survive when a machine or snapshot is switched off. dockerd and containerd refuse to start while the
# number in one is the id of any running process.
PID_FILES = {
    "dockerd": Path("/var/run/docker.pid"),
    "containerd": Path("/var/run/docker/containerd/containerd.pid"),
}
CERTIFICATE_FILES = ("ca.pem", "cert.pem", "key.pem")
# The docker command ignores TLS settings, of a context or of variables, for these addresses.
WITHOUT_TLS = ("unix:", "npipe:", "fd:", "ssh:")
_OVER_THE_NETWORK = ("tcp:", "http:", "https:", "ssh:")
# A dockerd that we start outlives this process. Keep its Popen, because Python warns if it collects a running one.
_outliving: list[subprocess.Popen[bytes]] = []


class NoEngineError(OpsError):
    """No Docker engine answers, and groundwork cannot start or install one."""

    exit_code = Exit.UNREACHABLE


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `arch` is Docker's name for the architecture (amd64, arm64)."""

    version: str
    arch: str

    def tool(self, source: ToolSource) -> Tool:
        selection = selected()
        return Tool(NAME, self.version, source, f"{selection or 'default context'} ({self.arch})")


@dataclass(frozen=True)
class Selection:
    """The user's selection of an engine: its description, how to undo it, and the name of a selected context."""

    words: str
    undo: str
    context: str | None = None

    def __str__(self) -> str:
        return self.words


def selected() -> Selection | None:
    """Return the engine that the environment or the docker command's configuration selects, or None for the default.

    Raises EmptyVariable for a variable that is set but empty.
    """
    host, context = variable("DOCKER_HOST"), variable("DOCKER_CONTEXT")
    if host:
        return Selection(f"DOCKER_HOST={host}", "unset DOCKER_HOST")
    if context:
        selection = Selection(f"DOCKER_CONTEXT={context}", "unset DOCKER_CONTEXT", context)
    else:
        path = docker_config() / "config.json"
        current = read_object(path).get("currentContext")
        if not isinstance(current, str) or not current:
            return None
        selection = Selection(f"context {current!r} of {path}", "run `docker context use default`", current)
    return None if selection.context == "default" else selection


@dataclass(frozen=True)
class Endpoint:
    """A context's engine: its address, and the folder of the files in CERTIFICATE_FILES if it is reached with TLS."""

    host: str
    certificates: Path | None = None


def selected_endpoint() -> Endpoint | None:
    """Return the engine of the selected context, or None if no context is selected or the selected one does not exist.

    Raises NoEngineError for a context whose TLS settings the variables of Docker cannot express. Pulumi's provider
    reads only those, although the docker command would reach the engine.
    """
    selection = selected()
    if selection is None or selection.context is None:
        return None
    for path in docker_config().glob("contexts/meta/*/meta.json"):
        context = read_object(path)
        if context.get("Name") == selection.context:
            endpoints = context.get("Endpoints")
            docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
            if not isinstance(docker, dict) or not isinstance(host := docker.get("Host"), str):
                return None
            folder = docker_config() / "contexts" / "tls" / path.parent.name / "docker"
            return Endpoint(host, _certificates(selection, host, docker, folder))
    return None


def _certificates(selection: Selection, host: str, endpoint: dict[str, object], folder: Path) -> Path | None:
    if host.startswith(WITHOUT_TLS):
        return None
    advice = (
        f"create the context again with `docker context create NAME --docker host={host},ca=FILE,cert=FILE,key=FILE`,"
        f" or {selection.undo}"
    )
    if endpoint.get("SkipTLSVerify") is True:
        raise NoEngineError(
            f"{selection} does not verify the engine's certificate, which Pulumi's provider requires; {advice}"
        )
    missing = [name for name in CERTIFICATE_FILES if not (folder / name).is_file()]
    if missing and len(missing) < len(CERTIFICATE_FILES):
        raise NoEngineError(
            f"{selection} has no {' and no '.join(missing)}, and Pulumi's provider needs all of"
            f" {', '.join(CERTIFICATE_FILES)} for TLS; {advice}"
        )
    return None if missing else folder


def answering() -> Engine | str:
    """Return the engine, or the reason why none answers. Raises NoEngineError for an engine that is not Docker's."""
    if shutil.which("docker") is None:
        return "the docker command is not installed"
    try:
        server = parse_server(
            "\n".join(process.run(["docker", *SERVER_COMMAND], timeout_seconds=ANSWER_SECONDS))
        )
    except NotDockerError as error:
        raise NoEngineError(str(error)) from error
    except CommandFailed as error:
        # The reason is on stderr. Without an engine, stdout contains only "null".
        is_down = "Is the docker daemon running" in error.last_line
        return "no engine answers" if is_down else error.last_line
    return Engine(server.version, server.arch)


def find() -> Engine | None:
    """Return the engine that answers, or None if `ensure` may start or install one.

    Raises NoEngineError, also for an engine that Pulumi's provider cannot reach, and for one on another machine.
    """
    selection = selected()
    endpoint = selected_endpoint()
    engine = answering()
    if isinstance(engine, Engine):
        if selection is not None:
            _require_this_machine(selection, endpoint.host if endpoint else variable("DOCKER_HOST") or "")
        return engine
    _refuse_what_is_not_ours(selection, engine)
    return None


def _require_this_machine(selection: Selection, address: str) -> None:
    """Raise NoEngineError if an engine's address is another machine's: its ports would be open there, on 127.0.0.1."""
    host = urlsplit(address).hostname if address.startswith(_OVER_THE_NETWORK) else None
    if host and not _is_this_machine(host):
        raise NoEngineError(
            f"the Docker engine of {selection} is on another machine; groundwork connects to the servers on"
            f" 127.0.0.1, so that the engine has to be on this machine: run the command there, or {selection.undo}"
        )


def _is_this_machine(host: str) -> bool:
    """Return whether one of the host's addresses belongs to this machine, which therefore can listen on it."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        # ssh may have its own name for a host.
        return False
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False


def ensure(checkout: Checkout, progress: Progress) -> tuple[Engine, Tool]:
    """Return an engine that answers. Raise NoEngineError, which says what to install or why it did not start."""
    if (found := find()) is not None:
        return found, found.tool(ToolSource.FOUND)
    with store.exclusive(
        checkout.cache_dir,
        "docker-engine",
        lambda who: progress.say(f"{NAME}: waiting for {who}, which starts it"),
    ):
        # If the other process has started it, it answers now.
        engine: Engine | str = answering()
        source = ToolSource.STARTED
        if isinstance(engine, str):
            with progress.step(NAME, "starting") as step:
                if missing_programs():
                    debian.install(packages, step)
                    source = ToolSource.INSTALLED
                # The package's own start script may have started it already.
                engine = answering()
                if isinstance(engine, str):
                    step.now("starting")
                    engine = _start(checkout, progress)
                step.doing = str(source)
        return engine, engine.tool(source)


def missing_programs() -> list[str]:
    """Return the programs of an engine that this machine lacks: a docker command alone is not an engine."""
    return [name for name in ("dockerd", "iptables", "docker") if _which(name) is None]


def packages() -> list[str]:
    """Return Debian's packages for the missing programs. Needs fresh package lists."""
    missing = missing_programs()
    wanted = ["docker.io"] if "dockerd" in missing else []
    if "iptables" in missing:
        wanted.append("iptables")
    if "docker" in missing:
        # Debian 13 has the command in a separate package, which docker.io only recommends.
        wanted.append("docker-cli" if debian.offers("docker-cli") else "docker.io")
    if not CERTIFICATES.exists():
        # Also only recommended: without it no registry's certificate can be verified.
        wanted.append("ca-certificates")
    return list(dict.fromkeys(wanted))


def _refuse_what_is_not_ours(selection: Selection | None, problem: str) -> None:
    if selection is not None:
        raise NoEngineError(
            f"no Docker engine answers for {selection} ({problem}); start it, or {selection.undo}"
        )
    if "permission denied" in problem.lower():
        raise NoEngineError(
            "this user may not access the Docker engine; run `sudo usermod -aG docker $USER`, then log in again"
        )
    if sys.platform != "linux":
        raise NoEngineError(
            f"there is no Docker engine ({problem}); install and start Docker Desktop or colima"
        )
    if os.geteuid() != 0:
        how = (
            "start it"
            if _which("dockerd")
            else "install it (on Debian: `sudo apt-get install docker.io iptables`, on Debian 13 also docker-cli)"
        )
        raise NoEngineError(f"there is no Docker engine ({problem}), and only root can change that; {how}")
    if missing_programs() and not debian.can_install():
        raise NoEngineError(
            f"there is no Docker engine ({problem}), and this is not Debian; install Docker as your system provides it"
        )


def _start(checkout: Checkout, progress: Progress) -> Engine:
    """Start dockerd so that it outlives this process, and wait until it answers."""
    if has_systemd():
        try:
            process.run(["systemctl", "start", "docker"], timeout_seconds=START_SECONDS)
        except CommandFailed as error:
            raise NoEngineError(
                f"`systemctl start docker` failed ({error}); see `journalctl -u docker`"
            ) from error
        return _await(None, None, "see `journalctl -u docker`")
    log = checkout.cache_dir / "dockerd.log"
    if _names_running(PID_FILES["dockerd"], "dockerd"):
        # Debian's init script or a user has just started it.
        return _await(
            None,
            None,
            f"a dockerd is running already ({PID_FILES['dockerd']}); see its log, or stop it and try again",
        )
    for name, path in PID_FILES.items():
        if path.exists() and not _names_running(path, name):
            progress.say(f"{NAME}: removing {path}, left behind by a {name} that has exited")
            path.unlink(missing_ok=True)
    command = _which("dockerd")
    if command is None:
        raise NoEngineError("the package docker.io did not install dockerd; install Docker by hand")
    with log.open("ab") as opened:
        started = subprocess.Popen(
            [command],
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=opened,
            cwd="/",
            env=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{INSTALLED_PATH}"},
            # In a separate session, so that it does not end with the terminal of `make up`.
            start_new_session=True,
        )
    _outliving.append(started)
    return _await(started, log, f"see {log}")


def _names_running(pid_file: Path, name: str) -> bool:
    """Return whether a pid file holds the id of a running process of this name."""
    try:
        return process.is_running(int(pid_file.read_text(encoding="utf-8")), name)
    except (OSError, ValueError):
        return False


def _await(started: subprocess.Popen[bytes] | None, log: Path | None, advice: str) -> Engine:
    deadline = time.monotonic() + START_SECONDS
    problem = "it did not answer"
    while time.monotonic() < deadline:
        engine = answering()
        if isinstance(engine, Engine):
            return engine
        problem = engine
        if started is not None and started.poll() is not None:
            problem = f"dockerd exited with code {started.returncode}"
            break
        process.pause(0.3)
    else:
        problem = f"{problem} within {clock(START_SECONDS)}"
    if started is not None and started.poll() is None:
        started.terminate()
    raise NoEngineError(f"cannot start the Docker engine: {problem}{_last_words(log)}; {advice}")


def _last_words(log: Path | None) -> str:
    """Return the lines of the log that explain why dockerd exited."""
    if log is None:
        return ""
    try:
        lines = log.read_text(errors="replace", encoding="utf-8").splitlines()[-40:]
    except OSError:
        return ""
    relevant = [line for line in lines if re.search("failed to start|level=(error|fatal)", line)]
    words = " | ".join((relevant or lines)[-2:])
    return f" ({words[-500:]})" if words else ""


def has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _which(command: str) -> str | None:
    """Return a program's path, even if the administrator's folders are not on PATH (as after Debian's `su`)."""
    return shutil.which(command) or shutil.which(command, path=INSTALLED_PATH)


def host_arch() -> str:
    """Return Docker's name for this machine's architecture."""
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
