"""The texts that a file of the checkout has had, as git remembers them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

_SECONDS = 60


def old_texts(path: Path) -> Iterator[bytes]:
    """Every content of the file in git's history, newest first, renames followed; nothing where git knows nothing.

    Line ends are the repository's, whatever a checkout makes of them.
    """
    log = _git(path.parent, "log", "--all", "--follow", "--raw", "--no-abbrev", "--format=", "--", path.name)
    seen: set[str] = set()
    for line in (log or b"").decode("utf-8", "replace").splitlines():
        fields = line.removeprefix(":").split()
        # :old-mode new-mode old-blob new-blob status<TAB>path
        for blob in reversed(fields[2:4]):
            if blob.strip("0") and blob not in seen:
                seen.add(blob)
                if (content := _git(path.parent, "cat-file", "blob", blob)) is not None:
                    yield content


def _git(folder: Path, *arguments: str) -> bytes | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
