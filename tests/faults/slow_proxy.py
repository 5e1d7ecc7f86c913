"""A TCP proxy that delays the answers, to simulate a slow server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SlowProxy:
    """Listens on `port` of localhost. `delay_seconds` may be changed while it runs."""

    def __init__(self, target: int) -> None:
        self.delay_seconds = 0.0
        # The size in bytes of the pieces of an answer. Each piece is delayed.
        self.piece = 65536
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop_listening(self) -> None:
        """Refuse new connections, and keep those that exist."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._pass, args=[client, server, False], daemon=True).start()
                threading.Thread(target=self._pass, args=[server, client, True], daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                piece = self.piece if is_answer else len(data)
                for start in range(0, len(data), piece):
                    if is_answer:
                        time.sleep(self.delay_seconds)
                    target.sendall(data[start : start + piece])
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_proxy(target: int) -> Iterator[SlowProxy]:
    """Run a proxy for a port of localhost."""
    proxy = SlowProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
