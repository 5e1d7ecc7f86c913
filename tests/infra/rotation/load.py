"""The load that a rotation runs under: tests/infra/rotation/callers.py in a container on the stack's network."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.docker.access import SECRETS_DIR
from infra.docker.engine import docker, inspect
from infra.outputs import CONTAINERS
from infra.spec.access import UID
from tests.containers import wait_until
from tests.infra.conftest import LiveStack
from tests.scale import IS_FULL

_PROGRAM = Path(__file__).with_name("callers.py")
# The pause of each caller. A window of a rotation lasts a second or more. With 0.25 s the calls use half a core.
PAUSE_SECONDS = 0.25 if IS_FULL else 1.0
KINDS = ("sync", "async", "postgres logins", "redis logins")


@dataclass(frozen=True)
class Seen:
    """What the callers have seen so far: `errors` reached the callers, `cache_errors` were handled by the cache."""

    done: dict[str, int]
    logins: dict[str, int]
    errors: list[str]
    cache_errors: int

    def since(self, before: Seen) -> Seen:
        """Return what was seen after `before`."""
        return Seen(
            {kind: self.done.get(kind, 0) - before.done.get(kind, 0) for kind in KINDS},
            {login: n - before.logins.get(login, 0) for login, n in self.logins.items()},
            self.errors[len(before.errors) :],
            self.cache_errors - before.cache_errors,
        )

    @property
    def is_everybody_at_work(self) -> bool:
        return all(self.done.get(kind, 0) > 0 for kind in KINDS)


class Load:
    """Callers that run until the end of the block."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def look(self) -> Seen:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return Seen(**answer)

    def go_on(self) -> Seen:
        """Wait until every kind of caller has completed another operation. Return what was seen meanwhile."""
        before = self.look()
        wait_until(lambda: self.look().since(before).is_everybody_at_work, timeout_seconds=180)
        return self.look().since(before)


@contextmanager
def load_on(stack: LiveStack) -> Iterator[Load]:
    """Run the callers. Yields after each kind has completed an operation."""
    (access,) = inspect("container", stack.container("access"))
    (volume,) = (m["Name"] for m in access["Mounts"] if m["Destination"] == SECRETS_DIR)
    name = f"gw-test-load-{uuid.uuid4().hex[:8]}"
    files = {"DATABASE_URL_FILE": "database_url", "REDIS_URL_FILE": "redis_url"}
    process = subprocess.Popen(
        [
            *("docker", "run", "--rm", "--init", "--no-healthcheck", "--interactive"),
            *("--name", name, "--user", f"{UID}:{UID}"),
            *("--network", stack.outputs[CONTAINERS]["network"], "--volume", f"{volume}:{SECRETS_DIR}:ro"),
            *(f"--env={variable}={SECRETS_DIR}/{file}" for variable, file in files.items()),
            *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--entrypoint", "python3"),
            *(access["Image"], "-I", "-c", _PROGRAM.read_text(), str(PAUSE_SECONDS)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        load = Load(process)
        load.go_on()
        yield load
    finally:
        docker("rm", "--force", name)
        process.communicate()
