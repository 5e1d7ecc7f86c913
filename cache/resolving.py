"""A server's name to addresses within a time limit: the system's resolver has none, and no thread can be stopped."""

from __future__ import annotations

import socket
from queue import Empty, SimpleQueue
from threading import Thread


def addresses(host: str, port: int, seconds: float) -> list[str]:
    """A host's addresses in the order to be tried. TimeoutError after so many seconds; OSError as getaddrinfo's."""
    answers: SimpleQueue[list[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))
        else:
            answers.put([str(address[0]) for *_, address in found])

    # One that is not waited for any longer ends when the resolver gives up.
    Thread(target=ask, name="groundwork-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"{host} was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
