"""Which life of Redis a process speaks to: every entry begins with its tag, and is read under no other.

A restart may bring back what invalidations had taken away, and so may a promoted replica; both have another
run id or replication id. A nonce that is kept in Redis is part of it too: drawn anew, nothing cached is read.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable
from threading import Lock

# Changes with the form of entries, so that old bytes are never decoded.
_FORMAT = 2


class Epoch:
    """The tag as the server told it last; until it has been asked, one that nothing begins with."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = Lock()
        self._questions = itertools.count(1)
        self._answered = 0
        # Where Redis has no memory left to keep a nonce, this process reads its own entries alone.
        self._own_nonce = secrets.token_hex(8).encode()
        self.tag = tag_of(b"", b"", self._own_nonce)
        self._prefix = self.tag + b":"

    def holds(self, raw: bytes) -> bool:
        """Whether these bytes were stored in this epoch."""
        return raw.startswith(self._prefix)

    def question(self) -> int:
        """A number for what the server is about to be asked: of two answers the later question's counts."""
        return next(self._questions)

    def learn(self, question: int, information: bytes, nonce: bytes | None) -> None:
        """Take in the server's answer: its INFO, and the nonce."""
        fields = dict(line.partition(b":")[::2] for line in information.splitlines())
        tag = tag_of(fields[b"run_id"], fields[b"master_replid"], nonce or self._own_nonce)
        with self._lock:
            if question < self._answered:
                return
            self._answered = question
            if tag != self.tag:
                self.tag, self._prefix = tag, tag + b":"
                self._on_change()


def tag_of(run_id: bytes, replication_id: bytes, nonce: bytes) -> bytes:
    """Sixteen hexadecimal digits."""
    named = b"%d %b %b %b" % (_FORMAT, run_id, replication_id, nonce)
    return hashlib.blake2s(named, digest_size=8).hexdigest().encode()
