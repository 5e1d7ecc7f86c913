"""Resolve a host name within a time limit, which the system's resolver does not have."""

from __future__ import annotations

import socket
from queue import Empty, SimpleQueue
from threading import Thread


def addresses(host: str, port: int, seconds: float) -> list[str]:
    """Return a host's addresses in the order to try. Raises TimeoutError after `seconds`, or getaddrinfo's OSError."""
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            answers.put([str(address[0]) for *_, address in found])

    # A thread cannot be stopped. After the time limit it ends when the resolver does.
    Thread(target=ask, name="groundwork-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"resolving {host} timed out") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
