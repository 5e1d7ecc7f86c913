"""Let SIGTERM and SIGHUP stop a command as Ctrl-C does.

Their default action ends only this process. Pulumi, a build or a statement that it has started would continue.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# `timeout` and some terminals send a signal to a process, and again to its group.
_REPEAT_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """A signal other than SIGINT has stopped the command."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated in the block on SIGTERM and SIGHUP, except for one that is ignored, as under nohup.

    Only the main thread may enter the block.
    """
    with _handled(_SIGNALS, _raise):
        yield


@contextmanager
def forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Send SIGINT to a process of another group when this one gets SIGINT, SIGTERM or SIGHUP, and let it finish.

    At the end of the block, raise KeyboardInterrupt or Terminated for the first of them.
    """
    first: list[int] = []
    last = 0.0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        first.append(number)
        if last - before > _REPEAT_SECONDS:
            process.send_signal(signal.SIGINT)

    with _handled((signal.SIGINT, *_SIGNALS), forward):
        yield
    if first:
        raise KeyboardInterrupt if first[0] == signal.SIGINT else Terminated(first[0])


def exit_code(stop: BaseException | None) -> int:
    """Return the exit code for a command that this exception, or one that it replaced, has stopped."""
    while stop is not None:
        if isinstance(stop, Terminated):
            return 128 + stop.number
        stop = stop.__context__
    return 128 + signal.SIGINT


@contextmanager
def _handled(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handle signals in the block, except for those that this process ignores."""
    previous = {number: signal.getsignal(number) for number in numbers}
    previous = {number: found for number, found in previous.items() if found != signal.SIG_IGN}
    for number in previous:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, found in previous.items():
            signal.signal(number, found)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)
