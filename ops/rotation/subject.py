"""The stack to rotate: its wanted and its applied rotation, and how to apply one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from infra import outputs
from infra.docker.engine import DockerError, psql
from infra.docker.members import WAIT_SECONDS, NoPrimary, primary_container
from infra.rotation_file import applied_rotation, read_progress, read_rotation, write_progress, write_rotation
from infra.spec.checkout import Checkout
from infra.spec.roles import LOGINS, quoted
from infra.spec.rotation import REDIS_SERVER_ROLES, ROLES, Rotation
from ops.errors import Exit, OpsError
from ops.rotation.login_drift import QUERY, login_differences
from ops.servers.errors import one_line
from ops.stack.change_lock import holder
from ops.stack.pulumi_stack import PulumiStack
from ops.stack.stack_status import CLUSTER_SERVICES, REDIS_SERVICES, container_rows, needed_services


@dataclass(frozen=True)
class RotatedStack:
    """A stack that is up, with what a rotation needs of it."""

    checkout: Checkout
    name: str

    def check_running(self) -> None:
        """Raise OpsError (6) if a part of the stack is down. Called before any change."""
        again = f"run `groundwork up --stack {self.name}`, then this command again"
        is_running = {row["service"]: row["isRunning"] for row in container_rows(self.checkout, self.name)}
        if not self.pulumi.exists or not is_running:
            raise OpsError(f"stack {self.name!r} is not up; {again}", Exit.UNREACHABLE)
        needed = needed_services(self.pulumi.public_outputs())
        stopped = [s for s in (*CLUSTER_SERVICES, *REDIS_SERVICES) if not is_running.get(s, s not in needed)]
        missing = [service for service in ("postgres", "redis") if not is_running.get(service)]
        if missing := [*dict.fromkeys((*missing, *stopped))]:
            raise OpsError(
                f"{', '.join(missing)} of stack {self.name!r} does not run; {again}", Exit.UNREACHABLE
            )
        try:
            psql(self._primary(), "SELECT 1")
        except DockerError as error:
            raise OpsError(
                f"Postgres of stack {self.name!r} does not answer: {error}; see"
                f" `groundwork logs --stack {self.name} --service postgres`",
                Exit.UNREACHABLE,
            ) from error

    def roles(self) -> tuple[str, ...]:
        """Return what has passwords in this stack. Raise OpsError as `known_outputs` does."""
        has_replicas = outputs.REDIS_SERVERS in self.known_outputs()
        return (*ROLES, *(REDIS_SERVER_ROLES if has_replicas else ()))

    def wanted(self) -> Rotation:
        """Return the rotation that the next `up` applies."""
        return read_rotation(self.checkout, self.name)

    def applied(self) -> Rotation:
        """Return the rotation that the last finished `up` applied."""
        return applied_rotation(self.checkout, self.name)

    def running_rotation(self) -> str | None:
        """Return the process of a rotation that is running, as in "(process 12)", or None."""
        command, _, process = (holder(self.checkout, self.name) or "").partition("` ")
        return process if command == "`groundwork rotate" else None

    def progress(self) -> Rotation:
        """Return the last step of each secret whose rotation is not complete, with the time when it was applied."""
        return read_progress(self.checkout, self.name)

    def record(self, progress: Rotation) -> None:
        write_progress(self.checkout, self.name, progress)

    def apply(self, rotation: Rotation) -> None:
        """Request a rotation, and apply it."""
        write_rotation(self.checkout, self.name, rotation)
        self.pulumi.up(to_stderr=True)

    def require_healthy(self) -> None:
        """Raise OpsError if a container of the stack is not healthy."""
        self.pulumi.require_healthy()

    def sessions(self, logins: Iterable[str]) -> dict[str, int]:
        """Return the number of open Postgres sessions by login. Logins without sessions are left out."""
        rows = psql(
            self._primary(),
            f"SELECT usename, count(*) FROM pg_stat_activity WHERE usename IN ({quoted(logins)}) GROUP BY 1",
        )
        counts = (line.split("|") for line in rows.splitlines() if line)
        return {login: int(count) for login, count in counts}

    def login_differences(self) -> list[str]:
        """Return how Postgres's logins differ from what the last `up` made. Raise OpsError (6) without an answer.

        Logins of roles with an unfinished step are left out, because they differ during that step.
        """
        digests = self.known_outputs()[outputs.EXPECTED].get("verifierDigests", {})
        try:
            found = psql(
                self._primary(wait_seconds=0),
                f"SELECT coalesce(json_agg(x), '[]') FROM ({QUERY}) AS x",
                timeout_seconds=15,
            )
        except (DockerError, NoPrimary) as error:
            raise OpsError(one_line(error), Exit.UNREACHABLE) from error
        wanted, applied = self.wanted(), self.applied()
        unfinished = [
            login.name
            for role, logins in LOGINS.items()
            if wanted.of(role) != applied.of(role)
            for login in logins
        ]
        rows = [row for row in json.loads(found) if row["name"] not in unfinished]
        return list(login_differences(rows, digests)) if digests else []

    def urls(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the roles' connection strings of Postgres and of Redis from the last `up`."""
        values = self.pulumi.outputs()
        return values[outputs.DATABASE_URLS], values[outputs.REDIS_URLS]

    def known_outputs(self) -> dict[str, Any]:
        """Return the outputs that are not secret. Raise OpsError: 6 if the stack was never up, 2 if unknown."""
        return self.pulumi.known_outputs()

    def resources(self) -> dict[str, dict[str, Any]]:
        """Return the generated secrets' resources in the state, by name. Secret values stay encrypted."""
        kind = "pulumi-python:dynamic:Resource"
        return {r["urn"].rpartition("::")[2]: r for r in self.pulumi.resources() if r["type"] == kind}

    @property
    def pulumi(self) -> PulumiStack:
        return PulumiStack(self.checkout, self.name)

    def _primary(self, wait_seconds: float = WAIT_SECONDS) -> str:
        return primary_container(self.checkout.name(self.name, "postgres"), wait_seconds)
