"""A server that speaks enough of Postgres' protocol to accept a login, as a primary or as a replica."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _greeting(*, is_replica: bool) -> bytes:
    reported = {
        "server_version": "15.0",
        "client_encoding": "UTF8",
        "DateStyle": "ISO, MDY",
        "TimeZone": "UTC",
        "IntervalStyle": "postgres",
        "standard_conforming_strings": "on",
        "default_transaction_read_only": "off",
        "in_hot_standby": "on" if is_replica else "off",
    }
    status = b"".join(_message(b"S", f"{name}\0{value}\0".encode()) for name, value in reported.items())
    return _message(b"R", struct.pack("!I", 0)) + status + _message(b"Z", b"I")


@dataclass
class FakeServer:
    """`logins` counts the sessions that have begun. A `silent` server answers nothing, like a frozen one."""

    listener: socket.socket
    is_replica: bool = False
    is_silent: bool = False
    logins: int = 0
    _sessions: list[socket.socket] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                session, _ = self.listener.accept()
                self._sessions.append(session)
                self.logins += 1
                if not self.is_silent:
                    session.recv(4096)
                    session.sendall(_greeting(is_replica=self.is_replica))

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for session in self._sessions:
            session.close()


@contextmanager
def fake_servers(*roles: str) -> Iterator[list[FakeServer]]:
    """Start a server for each role: `primary`, `replica` or `silent`."""
    servers = [
        FakeServer(
            socket.create_server(("127.0.0.1", 0)), is_replica=role == "replica", is_silent=role == "silent"
        )
        for role in roles
    ]
    threads = [threading.Thread(target=server.serve) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield servers
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.close()
            thread.join()


def conninfo(servers: list[FakeServer], target: str = "primary", more: str = "") -> str:
    hosts = ",".join("127.0.0.1" for _ in servers)
    ports = ",".join(str(server.port) for server in servers)
    return (
        f"host={hosts} port={ports} user=app dbname=groundwork target_session_attrs={target}"
        f" connect_timeout=2 sslmode=disable gssencmode=disable {more}"
    )
