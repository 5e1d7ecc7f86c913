"""A file that groundwork's Pulumi keeps locked while it lives, so that a stale lock in the backend can be recognized.

The backend's lock names a process and a host, and stays if Pulumi is killed. After a dev container was rebuilt, or a
laptop renamed, nothing tells whether that process lives. The kernel still knows whether this file is locked.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.spec.checkout import Checkout
from infra.state_folder import make_private

# Locks the file, writes the record, and becomes Pulumi. A record lock is kept by `exec`. Unlike that of `flock`, it is
# not inherited by Pulumi's plugins, which outlive a killed Pulumi. If another Pulumi has the lock, nothing is written.
_LOCK_AND_EXEC = """
import fcntl, json, os, sys, time
path, record, *command = sys.argv[1:]
try:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(file, True)
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.truncate(file, 0)
    started = {"pid": os.getpid(), "started": time.time()}
    os.write(file, json.dumps(json.loads(record) | started).encode())
except OSError:
    pass
os.execvp(command[0], command)
"""
# Its content changes when the kernel starts. All containers of a machine have the same.
_KERNEL = Path("/proc/sys/kernel/random/boot_id")
# A Pulumi takes the backend's lock this long after its start at the latest, also on a busy machine.
_LOCK_SECONDS = 600.0
_COARSE_CLOCK_SECONDS = 1.0


@dataclass(frozen=True)
class PulumiRun:
    """The file of one stack. It need not exist."""

    checkout: Checkout
    stack: str

    def recorded(self, command: Sequence[str]) -> list[str]:
        """Return a command that records its process in the file and becomes `command`. Creates the file's folder."""
        make_private(self.checkout, self._path.parent)
        record = json.dumps({"hostname": socket.gethostname(), "kernel": _kernel()})
        return [sys.executable, "-I", "-S", "-c", _LOCK_AND_EXEC, str(self._path), record, *command]

    def forget(self) -> None:
        """Delete the record of a run that has ended in the normal way. One of a run that still lives is kept."""
        try:
            with self._path.open("r+") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.truncate(file.fileno(), 0)
        except OSError:
            return

    def has_ended(self, pid: int, hostname: str, locked_at: float) -> bool:
        """Return whether this process was recorded under this kernel and has ended. False if that is not certain."""
        try:
            with self._path.open("r+") as file:
                found = json.loads(file.read())
                if (found["pid"], found["hostname"], found["kernel"]) != (pid, hostname, _kernel() or None):
                    return False
                if not -_COARSE_CLOCK_SECONDS <= locked_at - found["started"] <= _LOCK_SECONDS:
                    return False
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
        except (OSError, ValueError, KeyError, TypeError):
            return False

    @property
    def _path(self) -> Path:
        return self.checkout.stack_dir(self.stack) / "pulumi.json"


def _kernel() -> str:
    """Return the id of the running kernel, or "" on macOS."""
    try:
        return _KERNEL.read_text().strip()
    except OSError:
        return ""
