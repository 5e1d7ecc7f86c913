"""Folders of the shared cache, built by one process at a time and published atomically.

Leftovers of a killed run are removed by the next run that holds the same lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ops.toolchain import process

_POLL_SECONDS = 0.2


@contextmanager
def exclusive(cache_dir: Path, name: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock `name` of the cache. If another process holds it, call `on_wait` once with that process, and wait.

    The kernel releases the lock when its holder ends in any way, so that there are no stale locks.
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
def exclusive_if_free(cache_dir: Path, name: str) -> Iterator[bool]:
    """Take the lock `name` of the cache if it is free, and yield whether it was taken."""
    folder = cache_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def publishing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `target`, which is renamed to `target` if the block succeeds.

    Call this with the lock of `target` held. An existing `target` is replaced.
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
    """Remove drafts of `target` that killed runs have left."""
    for stale in target.parent.glob(f".{target.name}.*.draft"):
        discard(stale)


def discard(folder: Path) -> None:
    """Remove a folder if it exists, including read-only folders inside it (Go's module cache).

    Of a link, only the link itself is removed.
    """
    if folder.is_symlink():
        folder.unlink()
        return

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
                holder = lock.read() or "another process"
                # Another part of this run may hold it. That part already shows its progress.
                if not holder.startswith(f"process {os.getpid()} "):
                    on_wait(holder)
                said = True
            process.pause(_POLL_SECONDS)
