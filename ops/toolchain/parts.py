"""Run parts of the work in parallel. The first one that fails stops the others."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

from ops.toolchain.process import STOP, Stopped

_Result = TypeVar("_Result")
_WAIT_SECONDS = 0.5


class Parts:
    """A block that ends when all of its parts have ended, and raises the error of the first one that failed.

    A part may wait for another one with `Future.result`. On Ctrl-C every part is stopped before the block ends.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="toolchain")
        self._futures: list[Future[object]] = []

    def start(self, part: Callable[[], _Result]) -> Future[_Result]:
        """Run `part` in a separate thread."""
        context = contextvars.copy_context()
        context.run(STOP.set, self._stop)
        future = self._pool.submit(context.run, part)
        self._futures.append(future)  # type: ignore[arg-type]  # a Future is invariant
        return future

    def _failed(self) -> list[Future[object]]:
        return [future for future in self._futures if future.done() and future.exception()]

    def __enter__(self) -> Parts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed: list[Future[object]] = []
        try:
            if kind is None:
                # In short waits: Python may miss an interrupt that arrives just before it waits, until the wait ends.
                while (
                    any(wait(self._futures, _WAIT_SECONDS, FIRST_EXCEPTION).not_done) and not self._failed()
                ):
                    pass
                failed = self._failed()
        finally:
            if kind is not None or failed or not all(future.done() for future in self._futures):
                self._stop.set()
            self._pool.shutdown()
        errors = [future.exception() for future in failed]
        for problem in (*(e for e in errors if not isinstance(e, Stopped)), *errors):
            if problem is not None:
                raise problem
