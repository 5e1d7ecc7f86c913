"""The result of a restore drill as a document: the outcome of each check, and the measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ops.backup.errors import BackupError
from ops.errors import OpsError

CHECKS = (
    "archive",
    "repository",
    "wal",
    "recovery",
    "markers",
    "amcheck",
    "migrations",
    "smoke",
    "checksums",
)


class CheckFailed(BackupError):
    """A check of a drill failed."""


@dataclass
class DrillCheck:
    """One check. `ok` is None if it was not run."""

    name: str
    ok: bool | None = None
    detail: str = "not run"
    seconds: float = 0.0


@dataclass
class Evidence:
    """The course of a drill. Times are in UTC, RTO and RPO in seconds, or None if they could not be measured."""

    stack: str
    started_at: datetime
    aimed_for: datetime | None = None
    backup: str | None = None
    newest_commit: datetime | None = None
    rto_seconds: float | None = None
    rpo_seconds: float | None = None
    rows: dict[str, int] = field(default_factory=dict)
    ended_at: datetime | None = None
    checks: dict[str, DrillCheck] = field(init=False)
    check_names: InitVar[Sequence[str]] = CHECKS

    def __post_init__(self, check_names: Sequence[str]) -> None:
        self.checks = {name: DrillCheck(name) for name in check_names}

    @property
    def ok(self) -> bool:
        """Return whether every check was run and passed."""
        return all(check.ok for check in self.checks.values())

    @property
    def failures(self) -> list[DrillCheck]:
        return [check for check in self.checks.values() if check.ok is False]

    @contextmanager
    def check(self, name: str, progress: Callable[[str], None], what: str) -> Iterator[DrillCheck]:
        """Run a check. A known error in the block fails the check, and its message becomes the detail.

        The block sets `detail` to a description of the result.
        """
        progress(what)
        check = self.checks[name]
        started = time.monotonic()
        try:
            yield check
            check.ok = True
        except Exception as error:
            if not _is_known(error):
                raise
            check.ok, check.detail = False, " ".join(str(error).split())
        finally:
            check.seconds = round(time.monotonic() - started, 3)
        if not check.ok:
            progress(f"FAILED {name}: {check.detail}")

    def document(self) -> dict[str, Any]:
        """Return the evidence as a JSON document."""
        return {
            "drill": "ok" if self.ok else "failed",
            "stack": self.stack,
            "startedAt": _iso(self.started_at),
            "endedAt": _iso(self.ended_at),
            "aimedFor": _iso(self.aimed_for),
            "backup": self.backup,
            "newestRecoveredCommit": _iso(self.newest_commit),
            "rtoSeconds": self.rto_seconds,
            "rpoSeconds": self.rpo_seconds,
            "rows": self.rows,
            "checks": [
                {"check": c.name, "ok": c.ok, "detail": c.detail, "seconds": c.seconds}
                for c in self.checks.values()
            ],
        }


def _is_known(error: Exception) -> bool:
    from db.errors import DbError
    from infra.spec.errors import InfraError

    return isinstance(error, OpsError | DbError | InfraError)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")
