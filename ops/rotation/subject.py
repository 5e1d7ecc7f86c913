"""The stack that is rotated: what is wanted of it, what is applied, and how to make the one the other."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra import outputs
from infra.docker.engine import DockerError, psql
from infra.rotation_file import applied_rotation, read_rotation, write_rotation
from infra.spec.rotation import Rotation
from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.pulumi_stack import PulumiStack
from ops.stack_status import container_rows


@dataclass(frozen=True)
class RotatedStack:
    """A stack that is up, as its rotation sees it."""

    world: World
    name: str

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else rotates this stack meanwhile. OpsError (5) where somebody does; a killed one holds nothing."""
        path = self.world.stack_dir(self.name) / "rotation.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OpsError(
                    f"stack {self.name!r} is being rotated by another command; wait for it to end",
                    Exit.LOCKED,
                ) from error
            yield

    def check_running(self) -> None:
        """OpsError (6) where a part of the stack is not there to be rotated; nothing was changed then."""
        again = f"run `groundwork up --stack {self.name}`, then this again"
        is_running = {row["service"]: row["isRunning"] for row in container_rows(self.world, self.name)}
        if not self.pulumi.exists or not is_running:
            raise OpsError(f"stack {self.name!r} is not up; {again}", Exit.UNREACHABLE)
        if missing := [service for service in ("postgres", "redis") if not is_running.get(service)]:
            raise OpsError(
                f"{', '.join(missing)} of stack {self.name!r} does not run; {again}", Exit.UNREACHABLE
            )
        try:
            psql(self._container("postgres"), "SELECT 1")
        except DockerError as error:
            raise OpsError(
                f"Postgres of stack {self.name!r} does not answer: {error}", Exit.UNREACHABLE
            ) from error

    def wanted(self) -> Rotation:
        """What the next `up` makes true."""
        return read_rotation(self.world, self.name)

    def applied(self) -> Rotation:
        """What the last `up` that finished made true."""
        return applied_rotation(self.world, self.name)

    def apply(self, rotation: Rotation | None = None) -> None:
        """Write a rotation down (the one that is wanted already, without one), and make it true."""
        if rotation is not None:
            write_rotation(self.world, self.name, rotation)
        self.pulumi.up(to_stderr=True)

    def sessions(self, logins: Iterable[str]) -> dict[str, int]:
        """Login -> how many sessions it has in Postgres now; those without any are left out."""
        names = ", ".join(f"'{login}'" for login in logins) or "NULL"
        rows = psql(
            self._container("postgres"),
            f"SELECT usename, count(*) FROM pg_stat_activity WHERE usename IN ({names}) GROUP BY 1",
        )
        counts = (line.split("|") for line in rows.splitlines() if line)
        return {login: int(count) for login, count in counts}

    def urls(self) -> tuple[dict[str, str], dict[str, str]]:
        """The roles' connection strings of Postgres and of Redis, as the last `up` exported them."""
        values = self.pulumi.outputs()
        return values[outputs.DATABASE_URLS], values[outputs.REDIS_URLS]

    def known_outputs(self) -> dict[str, Any]:
        """The outputs that are no secrets. OpsError (6) where the stack was never brought up, (2) if unknown."""
        return self.pulumi.known_outputs()

    def resources(self) -> dict[str, dict[str, Any]]:
        """What the state knows of the generated secrets, by resource name; what is secret stays encrypted."""
        latest = json.loads(self.pulumi.state_file.read_text())["checkpoint"]["latest"]
        kind = "pulumi-python:dynamic:Resource"
        return {r["urn"].rpartition("::")[2]: r for r in latest["resources"] if r["type"] == kind}

    @property
    def pulumi(self) -> PulumiStack:
        return PulumiStack(self.world, self.name)

    def _container(self, service: str) -> str:
        return self.world.name(self.name, service)
