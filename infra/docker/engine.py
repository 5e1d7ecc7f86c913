"""Docker's command line, for operations that Pulumi's Docker provider does not have.

Files for containers are copied into a volume as a tar stream. So no host folder must be owned by a container's uid, and
it works for any user, and if the engine is in a virtual machine.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from infra.docker_command import DOCKER_OVERRIDES
from infra.spec.checkout import STATE_LABEL
from infra.spec.errors import InfraError, Unreachable

# What the docker command prints if it cannot use an engine: none runs, the user may not, or it is gone meanwhile.
_UNREACHABLE = re.compile(
    r"cannot connect to the docker daemon|permission denied while trying to connect|error during connect"
    r"|failed to connect to the docker api|context .* not found",
    re.IGNORECASE,
)
# One line for each object that does not exist. Docker 20.10 words it in another way than newer ones.
_MISSING = re.compile(
    r"^.*(?:\bno such (?:container|image|network|object|volume)\b|\bnetwork \S+ not found\b).*$",
    re.IGNORECASE | re.MULTILINE,
)


# The longest time that a container gets to stop, and the time limit of a command that stops containers.
MOST_STOP_SECONDS = 600
STOP_LIMIT_SECONDS = MOST_STOP_SECONDS + 60.0


class DockerError(InfraError):
    """A Docker command failed."""


class EngineUnreachable(DockerError, Unreachable):
    """The docker command is missing, or reaches no engine."""


class NotDockerError(DockerError):
    """The engine is not Docker, or does not run Linux containers."""


@dataclass(frozen=True)
class EngineInfo:
    """A Docker engine as it describes itself; `arch` is Docker's name for the architecture (amd64, arm64)."""

    version: str
    arch: str


@dataclass(frozen=True)
class File:
    """A file for a container: its text, owner and mode."""

    content: str
    uid: int
    gid: int
    mode: int = 0o400


def docker(
    *arguments: str,
    stdin: bytes | None = None,
    timeout_seconds: float = 120,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run `docker ARGUMENTS` and return its output. Raises DockerError with the engine's message.

    `environment` is added to this process's.
    """
    done = _completed(arguments, stdin=stdin, timeout_seconds=timeout_seconds, environment=environment)
    if done.returncode != 0:
        raise _failure(arguments[0], done)
    return done.stdout.decode(errors="replace")


def _completed(
    arguments: Sequence[str],
    *,
    stdin: bytes | None = None,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["docker", *arguments],
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
            env=os.environ | DOCKER_OVERRIDES | dict(environment or {}),
        )
    except FileNotFoundError as error:
        raise EngineUnreachable(
            "docker is not on PATH; run `make up`, which installs it where it can"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DockerError(
            f"`docker {arguments[0]}` did not finish within {timeout_seconds:.0f} s; check that the engine is healthy"
        ) from error


def _failure(command: str, done: subprocess.CompletedProcess[bytes]) -> DockerError:
    message = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
    if _UNREACHABLE.search(message):
        reason = message.splitlines()[-1].removesuffix(" Is the docker daemon running?").rstrip(".")
        return EngineUnreachable(
            f"cannot reach the Docker engine: {reason}; run `make up`, which starts it or says what to do"
        )
    if "when user namespaces are enabled" in message:
        # Image builds and rehearsals need the host's network, for proxies and databases on 127.0.0.1.
        return DockerError(
            f"`docker {command}` failed, because the engine remaps users: remove `userns-remap` from its daemon.json"
            " and restart it, or select another engine"
        )
    return DockerError(f"`docker {command}` failed: {message}")


def label_options(labels: Mapping[str, str]) -> list[str]:
    """Return the options that set labels of a new container, network or volume."""
    return [f"--label={name}={value}" for name, value in labels.items()]


# Options of `docker run` for a container that needs no privileges and writes no file of its image.
CONFINED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges=true")

# Prints the JSON that `parse_server` reads.
SERVER_COMMAND = ("version", "--format", "{{json .Server}}")


@cache
def server() -> EngineInfo:
    """Return the engine that the docker command uses, cached for the process. Raises DockerError."""
    return parse_server(docker(*SERVER_COMMAND))


def parse_server(answer: str) -> EngineInfo:
    """Return the engine described by the output of SERVER_COMMAND.

    Raises NotDockerError for other engines: Podman, for example, accepts the options that keep the data network
    closed, but ignores them.
    """
    try:
        described = json.loads(answer)
        version, arch, system = (str(described[key]) for key in ("Version", "Arch", "Os"))
        components = {str(part["Name"]): str(part["Version"]) for part in described["Components"]}
    except (ValueError, TypeError, KeyError) as error:
        raise NotDockerError(
            "the docker command reports no Docker engine (it may be Podman's); "
            "install Docker's own command, or put it first on PATH"
        ) from error
    if "Engine" in components and system == "linux":
        return EngineInfo(version, arch)
    name = " ".join(next(iter(components.items()), ("another engine", version)))
    if "Engine" in components:
        name = f"a Docker engine for {system} containers"
    raise NotDockerError(
        f"the engine that answers is {name}, and groundwork is tested only with Docker's own for Linux containers: "
        "others may leave the data network open; start Docker, and select it with DOCKER_HOST or DOCKER_CONTEXT"
    )


def inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """Return the output of `docker KIND inspect` for the named objects. Objects that do not exist are left out.

    Raises DockerError if the engine does not say of each other object that it does not exist.
    """
    if not names:
        return []
    done = _completed([kind, "inspect", *names], timeout_seconds=60)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    except ValueError:
        found = []
    missing = _MISSING.findall(done.stderr.decode(errors="replace"))
    if done.returncode != 0 and len(found) + len(missing) < len(names):
        raise _failure(kind, done)
    return found


# A container renames the files, because `docker cp` deletes a file before it writes the new one in several steps.
_MOVE_INTO_PLACE = 'cd /mnt; for name; do mv -fT ".new/$name" "$name"; done; rm -rf .new'


def write_files(volume: str, image: str, files: Mapping[str, File]) -> None:
    """Write files, with owner and mode, into a volume that is not in use yet. Does not start a container."""
    with _writer(volume, image) as name:
        copy_files(name, "/mnt", files)


def copy_files(container: str, folder: str, files: Mapping[str, File]) -> None:
    """Copy files, with owner and mode, into a running or stopped container."""
    docker("cp", "-", f"{container}:{folder}", stdin=_tar(files))


def replace_files(volume: str, image: str, files: Mapping[str, File]) -> None:
    """Replace files in a volume that is in use. A reader sees either the old file or the new one, never a part."""
    with _writer(volume, image, "-euc", _MOVE_INTO_PLACE, "sh", *files) as name:
        docker("cp", "-", f"{name}:/mnt", stdin=_tar(files, ".new/"))
        docker("start", "--attach", name)


@contextmanager
def _writer(volume: str, image: str, *command: str) -> Iterator[str]:
    """Create, but do not start, a container with the volume at /mnt. Replaces one that a killed process left."""
    remove_writer(volume)
    name, labels = _writer_of(volume), _labels_of(volume)
    docker(
        *("create", "--init", "--name", name, "--network", "none", "--user", "0:0", "--cap-drop", "ALL"),
        *("--read-only", *label_options(labels)),
        *("--volume", f"{volume}:/mnt", "--entrypoint", "sh", image, *command),
    )
    try:
        yield name
    finally:
        remove_writer(volume)


def remove_writer(volume: str) -> None:
    """Remove the container that writes files into a volume. A killed write leaves it, and it blocks the volume."""
    remove_container(_writer_of(volume), _labels_of(volume).get(STATE_LABEL, ""))


def _writer_of(volume: str) -> str:
    return f"{volume}-write"


def _labels_of(volume: str) -> dict[str, str]:
    """Return the labels of a volume. Its writer gets them too, because both belong to the same state."""
    return next((found["Labels"] or {} for found in inspect("volume", volume)), {})


def remove_container(name: str, state: str) -> None:
    """Remove a container with its anonymous volumes; do nothing if it does not exist.

    Raises DockerError if the container belongs to another state than `state`: only its owner may remove it.
    """
    for found in inspect("container", name):
        owner = (found["Config"]["Labels"] or {}).get(STATE_LABEL, "")
        if owner not in ("", state):
            raise DockerError(f"container {name} belongs to another state ({owner}); it was not removed")
        docker("rm", "--force", "--volumes", found["Id"])


def psql(
    container: str,
    sql: str,
    *,
    database: str = "postgres",
    options: Sequence[str] = (),
    timeout_seconds: float = 120,
) -> str:
    """Run SQL as the superuser over the container's local socket, and stop at the first error."""
    if "\0" in sql:
        raise DockerError(
            f"SQL for {container} contains a NUL byte, at which psql would cut it off; remove it"
        )
    return docker(
        "exec",
        "--interactive",
        container,
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        f"--dbname={database}",
        *options,
        "--file=-",
        stdin=sql.encode(),
        timeout_seconds=timeout_seconds,
    )


def _tar(files: Mapping[str, File], folder: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, file in files.items():
            raw = file.content.encode()
            entry = tarfile.TarInfo(f"{folder}{path}")
            # Readers detect a new file by its modification time.
            entry.mtime = time.time()
            entry.size, entry.uid, entry.gid, entry.mode = (
                len(raw),
                file.uid,
                file.gid,
                file.mode,
            )
            archive.addfile(entry, io.BytesIO(raw))
    return stream.getvalue()
