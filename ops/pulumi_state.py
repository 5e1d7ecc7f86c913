"""A stack's state where it is a file of this machine: what it holds, and whether somebody is changing it."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.spec.world import PROJECT, World
from ops.errors import Exit, OpsError


@dataclass(frozen=True)
class LocalState:
    """One stack's state in the local backend. There need be none."""

    world: World
    stack: str

    @property
    def file(self) -> Path:
        return self.world.state_file(self.stack)

    def latest(self) -> dict[str, Any]:
        """The deployment that it holds; empty before the first one."""
        latest = (json.loads(self.file.read_text()).get("checkpoint") or {}).get("latest") or {}
        assert isinstance(latest, dict)
        return latest

    def clear_stale_lock(self) -> None:
        """Remove the lock of a Pulumi process of this machine that is gone; OpsError (5) for a living one's."""
        folder = self.world.backend_dir / ".pulumi" / "locks" / "organization" / PROJECT / self.stack
        for path in folder.glob("*.json"):
            try:
                lock = json.loads(path.read_text())
                pid, host = int(lock["pid"]), lock["hostname"]
            except (OSError, ValueError, KeyError):
                continue
            if host == socket.gethostname() and not _is_alive(pid):
                path.unlink(missing_ok=True)
            else:
                raise OpsError(
                    f"stack {self.stack!r} is being changed by process {pid} on {host}; wait for it to end",
                    Exit.LOCKED,
                )

    def remove_unfinished(self) -> None:
        """Remove states that a killed run did not get to write; the one before them stands."""
        for unfinished in self.file.parent.glob(f"{self.file.name}.*.tmp"):
            unfinished.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether a Pulumi process of this machine still runs: no zombie, and no stranger that got its number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # "PID (name) STATE ...", where the name may hold anything but ends at the last parenthesis
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return True  # no /proc here
    return "pulumi" in name and rest.split()[0] != "Z"
