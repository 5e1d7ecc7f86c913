"""A stack's state file in the local backend: its content, and the lock of a running change."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.checkpoint import read_deployment
from infra.spec.checkout import PROJECT, Checkout
from ops.errors import Exit, OpsError
from ops.toolchain import process


@dataclass(frozen=True)
class LocalState:
    """One stack's state in the local backend. The file need not exist."""

    checkout: Checkout
    stack: str

    @property
    def file(self) -> Path:
        return self.checkout.state_file(self.stack)

    def latest(self) -> dict[str, Any]:
        """Return the deployment in the state file, empty before the first one.

        Raises FileNotFoundError if there is no state file.
        """
        return read_deployment(self.file)

    def clear_stale_lock(self) -> None:
        """Remove the lock of a dead Pulumi process of this machine. Raise OpsError (5) if the process is alive."""
        folder = self.checkout.backend_dir / ".pulumi" / "locks" / "organization" / PROJECT / self.stack
        for path in folder.glob("*.json"):
            try:
                lock = json.loads(path.read_text())
                pid, host = int(lock["pid"]), lock["hostname"]
            except (OSError, ValueError, KeyError):
                continue
            if host == socket.gethostname() and not process.is_running(pid, "pulumi"):
                path.unlink(missing_ok=True)
            else:
                raise OpsError(
                    f"stack {self.stack!r} is being changed by process {pid} on {host}; wait until it has finished",
                    Exit.LOCKED,
                )

    def remove_unfinished(self) -> None:
        """Remove states that a killed run did not finish writing. The previous state stays valid."""
        for unfinished in self.file.parent.glob(f"{self.file.name}.*.tmp"):
            unfinished.unlink(missing_ok=True)
