"""Run groundwork commands in forks of a process that has imported them, because imports are most of a short command.

Use `python -m ops.cli` where the start of a process is what a test is about.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ops import cli

_FORKS = multiprocessing.get_context("forkserver")
# What these commands import when they run.
_FORKS.set_forkserver_preload(
    [
        "boto3",
        "db.migrator",
        "db.seed",
        "encodings.idna",
        "ops.bootstrap",
        "ops.cache.flush",
        "ops.cache.warming",
        "ops.gharchive.workers",
        "ops.rotation.tokens",
        "ops.stack.connections",
        "pytest",
        "yaml",
        __name__,
    ]
)


def run(
    *arguments: str,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    prepare: Callable[..., None] | None = None,
    prepare_with: tuple[object, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command with these variables, after prepare(*prepare_with) in its process, and return the result."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin)
        process = _FORKS.Process(
            target=_main, args=(files, os.environ | environment, prepare, prepare_with, arguments)
        )
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, 300)
        out, err = (file.read_text() if file.exists() else "" for file in files[1:])
        code = process.exitcode
        process.close()
    return subprocess.CompletedProcess(arguments, code, out, err)


def _main(
    files: list[Path],
    environment: dict[str, str],
    prepare: Callable[..., None] | None,
    prepare_with: tuple[object, ...],
    arguments: tuple[str, ...],
) -> None:
    for number, (file, mode) in enumerate(
        zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)
    ):
        descriptor = os.open(file, mode, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    if prepare:
        prepare(*prepare_with)
    cli.main(list(arguments))
