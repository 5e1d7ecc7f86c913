"""The server process: its signals, and the addresses that it cannot listen on."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket

import pytest
import uvicorn

from ops.errors import OpsError
from ops.serve.server import _Server, bind
from ops.termination import terminable
from tests.cases import in_case


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


def test_an_address_that_cannot_be_used_names_the_option_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases: tuple[tuple[Exception, str], ...] = (
        (OSError(errno.EADDRINUSE, "Address already in use"), "; choose another with --port"),
        (OSError(errno.EACCES, "Permission denied"), "; choose another with --port"),
        (OverflowError("bind(): port must be 0-65535."), "; choose another with --port"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "; choose another with --host"),
        (OSError(socket.EAI_NONAME, "Name or service not known"), "; choose another with --host"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    )
    for error, end in cases:
        with in_case(error), monkeypatch.context() as patch:

            def fail(*_: object, error: Exception = error, **__: object) -> None:
                raise error

            patch.setattr(socket, "create_server", fail)
            with pytest.raises(OpsError) as failed:
                bind("db", 80)
            assert str(failed.value).startswith("cannot listen on db port 80: ")
            assert str(failed.value).endswith(end)


def test_a_host_that_cannot_be_used_is_named() -> None:
    for host in ("a" * 70, "192.0.2.1", "\udcff", "d\u00fc..b"):
        with in_case(host), pytest.raises(OpsError, match="choose another with --host"):
            bind(host, 0)
