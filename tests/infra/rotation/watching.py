"""Watch what the command lines and environments of all processes show during a rotation."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

_YOUNG_SECONDS = 5.0


@contextmanager
def processes_watched() -> Iterator[set[bytes]]:
    """Collect the command lines and environments of every process that runs during the block."""
    shown: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        seen: dict[str, float] = {}
        while not over.wait(0.1):
            now = time.monotonic()
            # Faster than pathlib.
            with os.scandir("/proc") as entries:
                seen = {each.name: seen.get(each.name, now) for each in entries if each.name.isdigit()}
            # An older one has long executed its program.
            for name in (name for name, since in seen.items() if now - since < _YOUNG_SECONDS):
                with suppress(OSError):
                    process = Path("/proc", name)
                    shown.update((process / part).read_bytes() for part in ("cmdline", "environ"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shown
    finally:
        over.set()
        watcher.join()


def assert_hidden(urls: Mapping[str, Mapping[str, str]], shown: set[bytes]) -> None:
    """Check that no process showed a password of these URLs."""
    everything = b"\n".join(shown)
    assert b"ops.cli" in everything
    for role, each in urls.items():
        assert not any(str(urlsplit(url).password).encode() in everything for url in each.values()), role
