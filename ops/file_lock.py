"""A lock file that one process holds at a time. The kernel releases the lock when the process ends in any way."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import Exit, OpsError


@contextmanager
def file_lock(path: Path, holder: str, refusal: Callable[[str], str]) -> Iterator[None]:
    """Hold the lock during the block, with `holder` as the file's content.

    Raise OpsError (5) with `refusal(holder)` if another process holds it. The holder is "" until the file is written.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OpsError(refusal(file.read().strip()), Exit.LOCKED) from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        yield
