"""The events that a run of migrations reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from db.migrator.source import Migration

EventKind = Literal["waiting", "begin", "warning", "statement", "retry", "done", "skipped", "absent"]


@dataclass(frozen=True)
class Applied:
    """A migration that was applied or reverted, and its duration in seconds."""

    migration: Migration
    seconds: float


@dataclass(frozen=True)
class Event:
    """A step of a run, with its migration, if any, and a text. As a string it is one line of progress.

    `warning` is about a script that runs although it has a problem. `done` has the migration in `applied`; the
    migration stays applied or reverted if a later one fails. `skipped` means that another migrator has done the
    migration. `absent` means that there is no ledger, so nothing can be reverted.
    """

    kind: EventKind
    migration: Migration | None
    detail: str
    applied: Applied | None = None

    def __str__(self) -> str:
        return self.detail if self.migration is None else f"{self.migration.name}: {self.detail}"


# Called in order, in the calling thread.
OnEvent = Callable[[Event], None]


def no_event(event: Event) -> None:
    """Ignore the event."""
