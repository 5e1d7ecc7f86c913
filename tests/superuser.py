"""SQL as the superuser of a temporary Postgres, through psql processes that stay in its container.

The superuser can log in only over the local socket. `docker exec` costs 100 ms of CPU, more than
most of the tests' SQL.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import uuid

from infra.docker.engine import DockerError

# The database that a process is connected to while it has nothing to do.
HOME = "postgres"
# Without the warning of a ROLLBACK outside a transaction, which would be part of a later error message.
_RESET = "SET client_min_messages = error;\nROLLBACK;\nDISCARD ALL;"


class _Ended(Exception):
    """The psql process has ended: the server was stopped, or ended the session."""


class _Process:
    """One psql, which runs one script at a time."""

    def __init__(self, container: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            ["docker", "exec", "--interactive", container, "psql", "--no-psqlrc", "--quiet", "--tuples-only",
             "--no-align", "--set=ON_ERROR_STOP=1", f"--dbname={HOME}", "--file=-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )  # fmt: skip

    def run(self, script: str, timeout_seconds: float) -> str:
        """Return what psql prints. Raises _Ended if psql does not reach the end of the script."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        mark = f"end of {uuid.uuid4().hex}"
        timer = threading.Timer(timeout_seconds, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(f"{script}\n\\echo {mark}\n".encode())
            self._process.stdin.flush()
            lines = []
            for line in self._process.stdout:
                if line.decode() == f"{mark}\n":
                    return "".join(lines)
                lines.append(line.decode(errors="replace"))
        except BrokenPipeError:
            # The process ended before it could read.
            pass
        finally:
            timer.cancel()
        raise _Ended

    def close(self) -> str:
        """End the process and return its error output."""
        self._process.kill()
        self._process.communicate()
        with self._errors:
            self._errors.seek(0)
            return self._errors.read().decode(errors="replace").strip()


class Superuser:
    """Runs SQL scripts in a container's Postgres. Each finds a session without traces of earlier scripts."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._idle: list[_Process] = []

    def run(self, sql: str, database: str, timeout_seconds: float = 550) -> str:
        """Run SQL in a database and return its output. Raises DockerError at the first error."""
        process = self._connected(database, timeout_seconds)
        stays = database == HOME and "\\c" not in sql
        try:
            # Ends a last statement without a semicolon, and its session.
            output = process.run(f"{sql}\n;" if stays else f"{sql}\n;\n\\connect {HOME}", timeout_seconds)
        except _Ended:
            raise DockerError(f"`docker exec` failed: {process.close()}") from None
        self._idle.append(process)
        return output

    def close(self) -> None:
        """End every process."""
        while self._idle:
            self._idle.pop().close()

    def _connected(self, database: str, timeout_seconds: float) -> _Process:
        """Return a process connected to a database. Replace one that has ended since its last script."""
        while True:
            try:
                process, is_new = self._idle.pop(), False
            except IndexError:
                process, is_new = _Process(self._container), True
            try:
                # A script may have changed the variable, which outlives its session.
                process.run(f"\\set ON_ERROR_STOP 1\n{_fresh_session(database)}", timeout_seconds)
            except _Ended:
                complaint = process.close()
                if is_new:
                    raise DockerError(f"`docker exec` failed: {complaint}") from None
            else:
                return process


def _fresh_session(database: str) -> str:
    """Return the commands that connect a process, or make its session at HOME a new one, which costs less CPU time."""
    return _RESET if database == HOME else f"\\connect {database}"
