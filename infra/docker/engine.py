"""Docker's command line, as far as the program needs what the provider has not.

Files for containers travel as a tar stream into a volume: no host folder has to be owned by a container's
uid, so it works for any user and for a remote engine too.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Mapping, Sequence
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


def write_files(volume: str, image: str, files: Mapping[str, File]) -> None:
    """Put files into a named volume with owner and mode, through a container that is never started."""
    name = f"{volume}-write-{uuid.uuid4().hex[:8]}"
    docker(
        "create",
        "--name",
        name,
        "--network",
        "none",
        "--volume",
        f"{volume}:/mnt",
        image,
    )
    try:
        docker("cp", "-", f"{name}:/mnt", stdin=_tar(files))
    finally:
        docker("rm", "--force", name)


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


def _tar(files: Mapping[str, File]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, file in files.items():
            raw = file.content.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.uid, entry.gid, entry.mode = (
                len(raw),
                file.uid,
                file.gid,
                file.mode,
            )
            archive.addfile(entry, io.BytesIO(raw))
    return stream.getvalue()
