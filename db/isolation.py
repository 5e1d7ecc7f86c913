"""The isolation level and the access mode of a transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from db.errors import InvalidInput

IsolationLevel = Literal["read committed", "repeatable read", "serializable"]


@dataclass(frozen=True)
class Isolation:
    """The isolation level and the access mode of a transaction. `level` None is the session's default."""

    level: IsolationLevel | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.level is not None and self.level not in get_args(IsolationLevel):
            levels = ", ".join(map(repr, get_args(IsolationLevel)))
            raise InvalidInput("isolation", f"{self.level!r} is not an isolation level; use one of {levels}")
        if not isinstance(self.read_only, bool):
            raise InvalidInput("read_only", f"{type(self.read_only).__name__} is not a bool")

    @property
    def clause(self) -> bytes:
        """The part of the statement after BEGIN."""
        level = "" if self.level is None else f" ISOLATION LEVEL {self.level.upper()}"
        return (level + " READ ONLY" * self.read_only).encode()

    def require(self, nested: Isolation) -> None:
        """Raise InvalidInput if a block nested in this transaction asks for something else."""
        if nested.level is not None and nested.level != self.level:
            around = "the session's default" if self.level is None else repr(self.level)
            raise InvalidInput(
                "isolation",
                f"{nested.level!r} is not the level of the transaction around it, {around};"
                " pass it to the outermost transaction()",
            )
        if nested.read_only and not self.read_only:
            raise InvalidInput(
                "read_only",
                "a transaction that may write cannot contain a read-only one; pass it to the outermost transaction()",
            )


DEFAULT = Isolation()
