"""The user's own program as the load: it runs beside the faults, and its exit code is reported."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping

from ops.errors import Exit, OpsError

_STOP_SECONDS = 30


class ProgramLoad:
    """A program with the URLs of role app in its environment, in a process group of its own."""

    def __init__(self, command: str, environment: Mapping[str, str]) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError:
            self._words = []
        if not self._words:
            raise OpsError(
                f"--load {command!r} is not a command; pass one as in a shell, or data-access or none",
                Exit.USAGE,
            )
        self.name = command
        self.code: int | None = None
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, began: float) -> None:
        """Start the program. Raise OpsError (2) if it does not exist. Its output goes to stderr."""
        try:
            self._process = subprocess.Popen(
                self._words,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                # stdout has the report.
                stdout=2,
                process_group=0,
            )
        except OSError as error:
            raise OpsError(f"cannot run {self._words[0]!r}: {error.strerror}", Exit.USAGE) from error

    @property
    def is_over(self) -> bool:
        """Return whether the program has ended."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """End the program: SIGTERM, and SIGKILL after 30 s. `code` is its exit code, and 0 if SIGTERM ended it."""
        if self._process is None:
            return
        was_over = self.is_over
        with self._process as process:
            if not was_over:
                os.killpg(process.pid, signal.SIGTERM)
            try:
                code = process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        # As a shell does for a program that a signal ended.
        code = code if code >= 0 else 128 - code
        # A program that handles SIGTERM and then ends, such as a shell with a trap or a JVM, returns this code itself.
        self.code = 0 if not was_over and code == 128 + signal.SIGTERM else code
