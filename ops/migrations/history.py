"""Earlier contents of a file of the checkout, from git's history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ops.git import GitError, NotOwnerError, git


def old_texts(path: Path) -> Iterator[bytes]:
    """Yield every content of the file in git's history, newest first, across renames; nothing without a history.

    Line endings are the repository's, not the checkout's. Raises NotOwnerError if git refuses to read the
    repository.
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
    try:
        return git(folder, *arguments)
    except NotOwnerError:
        raise
    except GitError:
        return None
