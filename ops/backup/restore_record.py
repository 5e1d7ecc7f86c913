"""The record of an unfinished restore: a file in the stack's state folder, which outlives every container.

The folders in the data volume say how far a restore has come, but reading them takes a container. Other commands only
look at this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.atomic_write import put
from infra.docker.engine import inspect
from infra.spec.checkout import Checkout
from ops.backup.site import BackupSite

_NAME = "restore-unfinished"
_WERE_UP = "servers-were-up"


@dataclass(frozen=True)
class RestoreRecord:
    """The record of one stack. The file has the name of the data volume, and whether its servers were up before."""

    path: Path

    @classmethod
    def of(cls, site: BackupSite) -> RestoreRecord:
        return cls(site.lock_file.with_name(_NAME))

    @classmethod
    def of_stack(cls, checkout: Checkout, stack: str) -> RestoreRecord:
        return cls(checkout.stack_dir(stack) / _NAME)

    def unfinished(self, stack: str) -> str | None:
        """Return what to say of an unfinished restore, with what to do, or None if there is none."""
        if not self.exists():
            return None
        return (
            f"a restore of stack {stack!r} is in progress or was interrupted; run the same"
            f" `groundwork restore --stack {stack}` again, or abandon it with"
            f" `groundwork restore --abandon --stack {stack}`"
        )

    def exists(self) -> bool:
        """Return whether a restore is unfinished. Delete the record if its data volume has been deleted."""
        volume, *_ = self._lines()
        if not volume:
            return False
        if inspect("volume", volume):
            return True
        self.delete()
        return False

    def were_up(self) -> bool:
        """Return whether a server was up before the unfinished restore stopped it."""
        return _WERE_UP in self._lines()

    def write(self, volume: str, *, were_up: bool = False) -> None:
        put(self.path, f"{volume}\n{_WERE_UP if were_up else ''}")

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return [""]
