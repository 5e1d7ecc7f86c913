"""A stack's state file in the local backend: its content, and the lock of a running change."""

from __future__ import annotations

import json
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.checkpoint import read_deployment
from infra.spec.checkout import PROJECT, Checkout
from ops.errors import Exit, OpsError
from ops.toolchain import process

# Only these exist at AWS. Creating a dynamic resource again continues where the killed run stopped.
_OF_AWS = "aws:"


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
        """Remove the lock of a dead Pulumi process of this machine. Raise OpsError (5) if the process may be alive."""
        folder = self.checkout.backend_dir / ".pulumi" / "locks" / "organization" / PROJECT / self.stack
        for path in folder.glob("*.json"):
            try:
                lock = json.loads(path.read_text(encoding="utf-8"))
                pid, host = int(lock["pid"]), lock["hostname"]
                locked_at = path.stat().st_mtime
            except (OSError, ValueError, KeyError):
                continue
            if host == socket.gethostname() and not process.is_running(pid, "pulumi"):
                path.unlink(missing_ok=True)
            else:
                raise OpsError(self._locked(path, f"process {pid} on {host}", locked_at), Exit.LOCKED)

    def _locked(self, path: Path, holder: str, locked_at: float) -> str:
        since = f"{datetime.fromtimestamp(locked_at, UTC):%Y-%m-%d %H:%M} UTC"
        minutes = int(time.time() - locked_at) // 60
        return (
            f"stack {self.stack!r} is being changed by {holder} since {since} ({minutes} min); wait until that process"
            f" has ended; if it no longer exists, release its lock ({path}) in the checkout's folder:"
            f' `eval "$(.venv/bin/groundwork shellenv --stack {self.stack})" && pulumi cancel --yes`'
        )

    def remove_unfinished(self) -> None:
        """Remove states that a killed run did not finish writing. The previous state stays valid."""
        for unfinished in self.file.parent.glob(f"{self.file.name}.*.tmp"):
            unfinished.unlink(missing_ok=True)


def refuse_pending_creates(deployment: Mapping[str, Any], stack: str) -> None:
    """Raise OpsError (7) if a killed run was creating resources: nobody knows whether they exist.

    Pulumi would create them again, and fail each time with AWS's error that they exist.
    """
    urns = [
        str(operation["resource"]["urn"])
        for operation in deployment.get("pending_operations") or []
        if operation["type"] == "creating" and operation["resource"]["type"].startswith(_OF_AWS)
    ]
    if not urns:
        return
    names = ", ".join(urn.rpartition("::")[2] for urn in urns)
    imports = " ".join(
        f"--import-pending-creates {shlex.quote(urn)} --import-pending-creates ID" for urn in urns
    )
    raise OpsError(
        f"a killed run of stack {stack!r} was creating {names}; find out which of these exist at AWS, and run"
        f' `eval "$(.venv/bin/groundwork shellenv --stack {stack})" && pulumi refresh --yes --skip-preview {imports}'
        " --clear-pending-creates` in the checkout's folder, without the pairs of those that do not exist"
        " (docs/aws-operations.md#a-killed-up)",
        Exit.REFUSED,
    )
