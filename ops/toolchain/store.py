"""Folders of the shared cache: built by one process at a time, published whole or not at all.

What a killed run leaves behind is swept away by the next one that holds the same lock. What a folder
holds is none of this module's business.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_POLL_SECONDS = 0.2


@contextmanager
def exclusive(cache_dir: Path, name: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of the cache; where another process has it, call `on_wait` once with who, and wait.

    The kernel lets the lock go when its holder ends, however it ends: there are no stale locks to clear.
    """
    folder = cache_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as lock:
        _acquire(lock, on_wait)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} in {Path.cwd()}")
        lock.flush()
        yield


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` in one rename if the block succeeds.

    Call it with the lock of `target` held. A `target` that is there already is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    draft.mkdir()
    try:
        yield draft
        if target.exists():
            # A rename cannot replace a folder that is not empty.
            discard(target)
        draft.rename(target)
    finally:
        discard(draft)


def sweep(target: Path) -> None:
    """Remove what killed runs left of their drafts of `target`."""
    for stale in target.parent.glob(f".{target.name}.*.draft"):
        discard(stale)


def discard(folder: Path) -> None:
    """Remove a folder whether or not it is there, read-only folders inside it (Go's module cache) too."""

    def retry_writable(remove: Callable[[str], object], path: str, _error: object) -> None:
        try:
            Path(path).parent.chmod(0o700)
            remove(path)
        except OSError:
            pass

    shutil.rmtree(folder, onerror=retry_writable)


def _acquire(lock: IO[str], on_wait: Callable[[str], None]) -> None:
    said = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not said:
                lock.seek(0)
                on_wait(lock.read() or "another process")
                said = True
            time.sleep(_POLL_SECONDS)
