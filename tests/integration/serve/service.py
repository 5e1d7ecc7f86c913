"""Run `groundwork serve` as a process, and read its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.containers import wait_until

ROOT = Path(__file__).parents[3]
COMMAND = "from ops.commands.serve import serve; serve(standalone_mode=False)"


class Service:
    """A running service. `lines` is its log so far, decoded."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.raw: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def port(self) -> int:
        wait_until(lambda: bool(self.logged("listening")) or self.process.poll() is not None, 180)
        return int(self.logged("listening")[0]["port"])

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if message in line["message"]]

    def get(self, path: str) -> tuple[int, str]:
        """Send a GET request, and return status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def readiness(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.get("/readyz")[1])
        return answer

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal, and return the exit code and the seconds until the exit."""
        started = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(5)
        return code, time.monotonic() - started

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.raw.append(line)


@contextmanager
def running_service(*options: str, **environment: str) -> Iterator[Service]:
    """Run `groundwork serve --port 0 OPTIONS` with these environment variables. Kill it at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "--host", "127.0.0.1", "--port", "0", *options],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Service(process)
    finally:
        process.kill()
        process.communicate()
