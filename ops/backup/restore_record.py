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


@dataclass(frozen=True)
class RestoreRecord:
    """The record of one stack. The file contains the name of the data volume that is being restored."""

    path: Path

    @classmethod
    def of(cls, site: BackupSite) -> RestoreRecord:
        return cls(site.lock_file.with_name(_NAME))

    @classmethod
    def of_stack(cls, checkout: Checkout, stack: str) -> RestoreRecord:
        return cls(checkout.stack_dir(stack) / _NAME)

    def exists(self) -> bool:
        """Return whether a restore is unfinished. Delete the record if its data volume has been deleted."""
        try:
            volume = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        if inspect("volume", volume):
            return True
        self.delete()
        return False

    def write(self, volume: str) -> None:
        put(self.path, volume)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
