"""A login name with escape sequences and newlines, sent before authentication, in the output of `groundwork logs`."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ops.cli import main
from ops.stack import stack_status
from tests.containers import Server, wait_until
from tests.promises import promise

Logs = Callable[[str], list[bytes]]

_FORGED = "2026-11-30 09:00:00.000 UTC [1] LOG:  forged"
_PREFIX = "SELECT setting FROM pg_settings WHERE name = 'log_line_prefix'"


def _knock(server: Server, user: bytes, database: bytes = b"groundwork") -> None:
    """Send a startup packet and read the answer. Without TLS the server rejects it, and logs the name."""
    body = struct.pack("!I", 3 << 16) + b"user\0" + user + b"\0database\0" + database + b"\0\0"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(struct.pack("!I", len(body) + 4) + body)
        connection.settimeout(30)
        assert connection.recv(1) == b"E"


@contextmanager
def _setting(server: Server, name: str, value: str) -> Iterator[None]:
    server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
    server.psql("SELECT pg_reload_conf()")
    wait_until(lambda: server.psql(_PREFIX).rstrip("\n") == value, 60)
    try:
        yield
    finally:
        server.psql(f"ALTER SYSTEM RESET {name}")
        server.psql("SELECT pg_reload_conf()")
        wait_until(lambda: server.psql(_PREFIX).rstrip("\n") != value, 60)


@pytest.fixture
def logs(
    stack_postgres: Server, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Logs:
    """logs(mark) returns the lines that `groundwork logs` prints from the first with `mark` on."""
    row = {
        "service": "postgres",
        "container": stack_postgres.container,
        "health": "healthy",
        "isRunning": True,
    }
    monkeypatch.setattr(stack_status, "container_rows", lambda *_: [row])

    def read(mark: str) -> list[bytes]:
        deadline = time.monotonic() + 60
        while True:
            with pytest.raises(SystemExit) as over:
                main(["logs", "--service", "postgres"])
            assert not over.value.code
            lines = capfdbinary.readouterr().out.split(b"\n")
            found = [number for number, line in enumerate(lines) if mark.encode() in line]
            # The end of the message.
            if found and any(b"no encryption" in line for line in lines[found[0] :]):
                return lines[found[0] :]
            assert time.monotonic() < deadline, lines
            time.sleep(0.2)

    return read


@promise(
    "what a client sends before it logs in cannot control the terminal or forge a line of `groundwork logs`"
)
def test_a_login_name_with_escape_sequences_is_printed_escaped(stack_postgres: Server, logs: Logs) -> None:
    # A terminal's title, clearing it, C1, text direction, an invisible character, and invalid UTF-8. 63 bytes at most.
    _knock(
        stack_postgres, b"mark1\x1b]0;t\x07\x1b[2J\x08\r" + "\x9b\u202e\u2066\u200b".encode() + b"\xff\xfe"
    )
    said = b"\n".join(logs("mark1"))
    assert b"mark1\\u001b]0;t\\u0007\\u001b[2J\\u0008\\r\\u009b\\u202e\\u2066\\u200b" in said
    assert all(byte >= 32 or byte in b"\n\t" for byte in said)


@promise(
    "what a client sends before it logs in cannot control the terminal or forge a line of `groundwork logs`"
)
def test_a_newline_in_a_login_or_database_name_forges_no_line(stack_postgres: Server, logs: Logs) -> None:
    for mark, names in {
        "mark2": (f"mark2\n{_FORGED}".encode(), b"groundwork"),
        "mark3": (b"mark3", f"mark3\n{_FORGED}".encode()),
    }.items():
        _knock(stack_postgres, *names)
        lines = logs(mark)
        assert any(b"forged" in line for line in lines)
        # Postgres indents the further lines of a message with a tab.
        assert [line for line in lines if b"forged" in line and not line.startswith(b"\t")] == []


@promise(
    "what a client sends before it logs in cannot control the terminal or forge a line of `groundwork logs`",
    control=True,
)
def test_a_log_prefix_with_the_login_name_lets_a_client_forge_a_line(
    stack_postgres: Server, logs: Logs
) -> None:
    with _setting(stack_postgres, "log_line_prefix", "%m [%p] %u@%d "):
        _knock(stack_postgres, f"mark4\n{_FORGED}".encode())
        assert [line for line in logs("mark4") if line.startswith(_FORGED.encode())]
