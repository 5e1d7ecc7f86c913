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


@contextmanager
def terminable() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on SIGTERM and SIGHUP, except for one that is ignored, as under nohup.

    The exception has the signal as its argument. A subclass would not do: subprocess.Popen compares the exact class.
    Only the main thread may enter the block.
    """
    with _handled(_SIGNALS, _raise):
        yield


@contextmanager
def supervised(start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that has to finish what it is doing. The block ends only after the program has.

    The program must have its own process group. When this process gets SIGINT, SIGTERM or SIGHUP, or if the block
    raises, the program gets SIGINT. At the end, raise KeyboardInterrupt for the first of the signals.
    """
    received: list[int] = []
    process: subprocess.Popen[bytes] | None = None
    last = 0.0

    def stop() -> None:
        nonlocal last
        if process is not None and time.monotonic() - last > _REPEAT_SECONDS:
            last = time.monotonic()
            process.send_signal(signal.SIGINT)

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        stop()

    with _handled((signal.SIGINT, *_SIGNALS), forward):
        process = start()
        if received:
            stop()
        try:
            yield process
        except BaseException:
            stop()
            raise
        finally:
            process.wait()
    if received:
        raise KeyboardInterrupt(received[0])


def exit_code(error: BaseException | None, otherwise: int = 128 + signal.SIGINT) -> int:
    """Return the exit code for the signal that led to an error, or `otherwise` if none did."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return 128 + int(error.args[0] if error.args else signal.SIGINT)
        error = error.__context__
    return otherwise


def description(error: BaseException) -> str:
    """Return an error's message, or its class if it has none. For a signal, name the signal."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted by {signal.Signals(error.args[0] if error.args else signal.SIGINT).name}"
    return str(error) or type(error).__name__


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
            # The block may have set a handler that is to stay.
            if signal.getsignal(number) == handler:
                signal.signal(number, found)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)
