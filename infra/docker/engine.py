"""Docker's command line, as far as the program needs what the provider has not.

Files for containers travel as a tar stream into a volume: no host folder has to be owned by a container's
uid, so it works for any user and for a remote engine too.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.spec.errors import InfraError


class DockerError(InfraError):
    """The Docker engine refused a command."""


@dataclass(frozen=True)
class File:
    """A file for a container: its text, owner and mode."""

    content: str
    uid: int
    gid: int
    mode: int = 0o400


def docker(*arguments: str, stdin: bytes | None = None, timeout_seconds: float = 120) -> str:
    """Run `docker ARGUMENTS` and return what it prints. DockerError carries the engine's own words."""
    try:
        done = subprocess.run(
            ["docker", *arguments],
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise DockerError("docker is not on PATH; run `make up`, which installs it where it can") from error
    except subprocess.TimeoutExpired as error:
        raise DockerError(
            f"`docker {arguments[0]}` gave no answer within {timeout_seconds:.0f} s; is the engine healthy?"
        ) from error
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise DockerError(f"`docker {arguments[0]}` failed: {message}")
    return done.stdout.decode(errors="replace")


def inspect(kind: str, *names: str) -> list[dict[str, Any]]:
    """What `docker KIND inspect` knows of the named objects; the absent ones are left out."""
    done = subprocess.run(
        ["docker", kind, "inspect", *names],
        capture_output=True,
        check=False,
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    return found


# Renamed by a container: Docker's own copy takes a file away before it writes the new one, half a file at a time.
_MOVE_INTO_PLACE = 'cd /mnt; for name; do mv -fT ".new/$name" "$name"; done; rm -rf .new'


def write_files(volume: str, image: str, files: Mapping[str, File]) -> None:
    """Put files into a named volume that nobody reads yet, with owner and mode; no container is started."""
    with _writer(volume, image) as name:
        docker("cp", "-", f"{name}:/mnt", stdin=_tar(files))


def replace_files(volume: str, image: str, files: Mapping[str, File]) -> None:
    """Put files into a volume in use: whoever reads one at any moment has the old or the new one, whole."""
    with _writer(volume, image, "-euc", _MOVE_INTO_PLACE, "sh", *files) as name:
        docker("cp", "-", f"{name}:/mnt", stdin=_tar(files, ".new/"))
        docker("start", "--attach", name)


@contextmanager
def _writer(volume: str, image: str, *command: str) -> Iterator[str]:
    """A container with the volume at /mnt, not started. Of a killed one the next takes the name over."""
    name = writer_of(volume)
    remove_container(name)
    docker(
        *("create", "--name", name, "--network", "none", "--user", "0:0", "--cap-drop", "ALL", "--read-only"),
        *("--volume", f"{volume}:/mnt", "--entrypoint", "sh", image, *command),
    )
    try:
        yield name
    finally:
        remove_container(name)


def writer_of(volume: str) -> str:
    """The container by which files get into a volume; there is one while they do, or did when killed."""
    return f"{volume}-write"


def remove_container(name: str) -> None:
    """Remove a container, with the nameless volumes of its image; none of that name is fine."""
    if inspect("container", name):
        docker("rm", "--force", "--volumes", name)


def psql(
    container: str,
    sql: str,
    *,
    database: str = "postgres",
    options: Sequence[str] = (),
    timeout_seconds: float = 120,
) -> str:
    """Run SQL as the superuser over the container's local socket; stops at the first error."""
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
            # By the time of its last change a reader knows that it is another one.
            entry.mtime = time.time()
            entry.size, entry.uid, entry.gid, entry.mode = (
                len(raw),
                file.uid,
                file.gid,
                file.mode,
            )
            archive.addfile(entry, io.BytesIO(raw))
    return stream.getvalue()
