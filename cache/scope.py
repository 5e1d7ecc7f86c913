"""The `with` block that a task or thread is in, when its context variable says so.

A generator that yields inside a block may be closed in another context: asyncio closes one that was left early in a
task of its own. The variable of the context that entered the block cannot be changed from there. That context leaves
the block when it looks for it the next time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Generic, Self, TypeVar

V = TypeVar("V")


class Scope:
    """A `with` block. `outer` is the enclosing one."""

    def __init__(self, outer: Self | None) -> None:
        self.outer = outer
        self.is_over = False
        # Of the context that has entered the block. Contexts that were copied from it cannot use the token.
        self._token: Token[Any] | None = None

    def enter(self, variable: ContextVar[Any]) -> None:
        self._token = variable.set(self)

    def is_left(self, variable: ContextVar[Any]) -> bool:
        """Leave the block if it has ended and this context has entered it. Return whether it was left."""
        if not self.is_over or self._token is None:
            return False
        try:
            variable.reset(self._token)
        except (ValueError, RuntimeError):
            return False
        # A token can be used once, but an inner block that ends later may return to this one.
        self._token = variable.set(self.outer)
        return True


S = TypeVar("S", bound=Scope)


def innermost(variable: ContextVar[S | None]) -> S | None:
    """Return this context's innermost block, after leaving those that it has entered and that have ended."""
    scope = variable.get()
    while scope is not None and scope.is_left(variable):
        scope = variable.get()
    return scope


class Holding(Scope, Generic[V]):
    """A block that sets a value, for the task or thread that enters it and for the tasks started in it."""

    def __init__(self, outer: Self | None, value: V) -> None:
        super().__init__(outer)
        self.value = value


@contextmanager
def holding(variable: ContextVar[Holding[V] | None], value: V) -> Iterator[None]:
    """Set the value of the block."""
    scope = Holding(innermost(variable), value)
    # Ended twice, because a signal handler may raise inside the first `finally`.
    try:
        try:
            scope.enter(variable)
            yield
        finally:
            _end(variable, scope)
    finally:
        _end(variable, scope)


def _end(variable: ContextVar[Holding[V] | None], scope: Holding[V]) -> None:
    scope.is_over = True
    if variable.get() is scope:
        variable.set(scope.outer)


def value(variable: ContextVar[Holding[V] | None]) -> V | None:
    """Return the value of the innermost block, or None."""
    scope = variable.get()
    # Called for each read, which is seldom inside a block.
    if scope is not None and scope.is_over:
        scope = innermost(variable)
    return None if scope is None else scope.value
