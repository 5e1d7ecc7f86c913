"""Reset objects in a forked child, so that it uses its own locks and threads, and none of the parent's sockets.

A fork copies one thread and all memory. In the child, the parent's other threads do not exist, and a lock that one of
them held stays locked. Each socket is shared: what the child sends on it arrives among the parent's commands.

Objects register themselves. In the child, `after_fork` of each one runs before anything else. It only resets state.
The child creates connections and threads at its first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getclosurevars
from threading import Lock, get_ident
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar
from weakref import ref

from prometheus_client import REGISTRY, values
from prometheus_client.metrics import MetricWrapperBase

_R = TypeVar("_R")
# How long a fork waits for other threads that connect. Longer than a normal attempt, even on a busy machine.
_PATIENCE_SECONDS = 3.0
_POLL_SECONDS = 0.001


class Forkable(Protocol):
    """An object with state that a forked child must not use."""

    def after_fork(self) -> None:
        """Reset the state, in the child. No other thread is running."""


# The weak references remove themselves by `discard`, which is written in C, so that no signal handler can interrupt it.
_registered: set[ref[Forkable]] = set()
# Objects of the parent whose finalizers must not run in the child.
_parents: list[object] = []


def register(forkable: Forkable) -> None:
    """Call `after_fork` of this object in every forked child, while the object exists."""
    _registered.add(ref(forkable, _registered.discard))


def _after_fork() -> None:
    try:
        _reset()
    except BaseException:
        # A signal handler may raise here, as on Ctrl-C. Python ignores the exception, and the child would continue
        # with what is left of the parent's state.
        _reset()
        raise


def _reset() -> None:
    _free_metrics()
    for reference in [*_registered]:
        forkable = reference()
        if forkable is not None:
            forkable.after_fork()


def _free_metrics() -> None:
    """Unlock all Prometheus metrics. Another thread of the parent may have held their locks."""
    pending: list[Any] = [
        each for each in REGISTRY._collector_to_names if isinstance(each, MetricWrapperBase)
    ]
    locked: list[Any] = [REGISTRY]
    while pending:
        metric = pending.pop()
        numbers = [getattr(metric, name, None) for name in ("_value", "_sum", "_count")]
        locked += [metric, *numbers, *getattr(metric, "_buckets", ())]
        pending += getattr(metric, "_metrics", {}).values()
    locks = [getattr(each, "_lock", None) for each in locked]
    # With PROMETHEUS_MULTIPROC_DIR, the numbers of all metrics share one lock, which only their methods refer to.
    locks.append(getclosurevars(values.ValueClass.inc).nonlocals.get("lock"))
    for lock in locks:
        if lock is not None:
            lock._at_fork_reinit()


class _Attempt:
    """Exists while a thread connects, even if a signal handler interrupts it."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()


_attempts: set[ref[_Attempt]] = set()
# For each fork that waits for attempts, when it no longer does (monotonic).
_forks: list[float] = []


@contextmanager
def connecting() -> Iterator[None]:
    """Connect in this block, so that no other thread forks meanwhile.

    Connecting imports modules and takes locks of the resolver and of OpenSSL. In a child that is forked in the middle
    they would stay locked, and the child's own attempts would never end.
    """
    while True:
        attempt = _Attempt()
        reference = ref(attempt, _attempts.discard)
        # In this order: either the fork waits for this attempt, or this attempt waits for the fork.
        _attempts.add(reference)
        if not any(ends_at > monotonic() for ends_at in [*_forks]):
            break
        _attempts.discard(reference)
        sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _attempts.discard(reference)


def _before_fork() -> None:
    """Wait until no other thread connects, for a limited time."""
    ends_at = monotonic() + _PATIENCE_SECONDS
    _forks.append(ends_at)
    while _is_another_connecting() and monotonic() < ends_at:
        sleep(_POLL_SECONDS)


def _is_another_connecting() -> bool:
    attempts = [reference() for reference in [*_attempts]]
    return any(attempt is not None and attempt.thread != get_ident() for attempt in attempts)


def _after_fork_in_parent() -> None:
    # A signal handler may have raised before it was added.
    if _forks:
        _forks.pop()


def _after_fork_in_child() -> None:
    _forks.clear()
    _attempts.clear()
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


def abandon(owner: object, descriptor: int | None = None) -> None:
    """Keep an object of the parent alive but unused until the child ends. Connect its socket's descriptor to /dev/null.

    Closing a TLS connection would send a close message on the socket that the parent uses.
    """
    _parents.append(owner)
    if descriptor is None or descriptor < 0:
        return
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)


class Exclusion:
    """Runs one action at a time. An exception of a signal handler never leaves its lock locked.

    In a `with` block of several lines, the handler may raise at the end of the block, before the lock is released. In a
    block of one line it cannot.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = Lock()
        register(self)

    def __call__(self, action: Callable[..., _R], *arguments: Any) -> _R:
        with self._lock: return action(*arguments)  # fmt: skip # noqa: E701

    def after_fork(self) -> None:
        self._lock = Lock()
