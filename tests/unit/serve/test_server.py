"""The server process: its signals, and the addresses that it cannot listen on."""

from __future__ import annotations

import asyncio
import signal

import uvicorn

from ops.serve.server import _Server
from ops.termination import terminable


async def _stop_by_signal() -> None:
    server = _Server(uvicorn.Config("unused:app"))
    with server.capture_signals():
        signal.raise_signal(signal.SIGTERM)
        await server._stopping.wait()


def test_a_second_signal_after_the_stop_is_ignored_until_the_process_ends() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        # As in ops.cli.
        with terminable():
            asyncio.run(_stop_by_signal())
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN, signal.SIG_IGN]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
