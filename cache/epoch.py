"""Which life of Redis a process speaks to: every entry begins with its tag, and is read under no other.

A restart may bring back what invalidations had taken away, and so may a promoted replica; both have another
run id or replication id. A nonce that is kept in Redis is part of it too: drawn anew, nothing cached is read.
What the server told is relied on for RELIANCE_SECONDS, so that whoever drew it anew knows when all have noticed.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable
from threading import Lock
from time import monotonic
from typing import NamedTuple

# Changes with the form of entries, so that old bytes are never decoded.
_FORMAT = 2
# More than a second, for so often is the server asked anyway; a call that comes later asks by itself.
RELIANCE_SECONDS = 1.5


class Told(NamedTuple):
    """What the server says of its life: INFO's run_id and master_replid, and the namespace's nonce.

    The nonce is `{nonce} {entity}={nonce} ...`: the namespace's own, and one of each entity that was flushed by
    itself. They lie in one key, for one that was evicted alone would bring back what was flushed.
    """

    run_id: bytes
    replication_id: bytes
    nonce: bytes

    def tag_of(self, entity: str) -> bytes:
        shared, *own = self.nonce.split(b" ")
        nonce = b" ".join([shared, *(part for part in own if part.startswith(entity.encode() + b"="))])
        return tag_of(self.run_id, self.replication_id, nonce)


class EntityEpoch:
    """The epoch of one entity: the namespace's, and where the entity was flushed by itself, one of its own."""

    def __init__(self, epoch: Epoch, entity: str) -> None:
        self._epoch = epoch
        self._entity = entity
        self.tag = b""
        self._prefix = b""
        self.turn()

    def holds(self, raw: bytes) -> bool:
        """Whether these bytes were stored in this epoch, which is known to be the present one."""
        return raw.startswith(self._prefix) and not self._epoch.is_overdue

    def stands(self, tag: bytes) -> bool:
        """Whether the tag is still the present one."""
        return tag == self.tag and not self._epoch.is_overdue

    def turn(self) -> None:
        """Take up what the server told last."""
        self.tag = self._epoch.tag_of(self._entity)
        self._prefix = self.tag + b":"


class Epoch:
    """The tags as the server told them last; until it has been asked, such as nothing begins with."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = Lock()
        self._questions = itertools.count(1)
        self._answered = 0
        self._good_until = 0.0
        # Where Redis has no memory left to keep a nonce, this process reads its own entries alone.
        self._own_nonce = secrets.token_hex(8).encode()
        self._told = Told(b"", b"", self._own_nonce)
        self._views: dict[str, EntityEpoch] = {}

    @property
    def tag(self) -> bytes:
        """The tag of entities that were never flushed by themselves."""
        return self.tag_of("")

    @property
    def is_overdue(self) -> bool:
        """Whether the server has to be asked before anything that it holds is relied on."""
        return monotonic() > self._good_until

    def of(self, entity: str) -> EntityEpoch:
        with self._lock:
            if entity not in self._views:
                self._views[entity] = EntityEpoch(self, entity)
            return self._views[entity]

    def tag_of(self, entity: str) -> bytes:
        return self._told.tag_of(entity)

    def doubt(self) -> None:
        """The nonce was drawn anew: what is asked from now on tells it, and no answer that is still under way."""
        with self._lock:
            self._answered = next(self._questions)
            self._good_until = 0.0

    def question(self) -> tuple[int, float]:
        """The number and the time of what the server is about to be asked: the later question's answer counts."""
        return next(self._questions), monotonic()

    def learn(self, question: tuple[int, float], information: bytes, nonce: bytes | None) -> None:
        """Take in the server's answer: its INFO, and the nonce."""
        fields = dict(line.partition(b":")[::2] for line in information.splitlines())
        told = Told(fields[b"run_id"], fields[b"master_replid"], nonce or self._own_nonce)
        number, asked_at = question
        with self._lock:
            if number < self._answered:
                return
            self._answered = number
            if told != self._told:
                self._told = told
                for view in self._views.values():
                    view.turn()
                self._on_change()
            self._good_until = asked_at + RELIANCE_SECONDS


def tag_of(run_id: bytes, replication_id: bytes, nonce: bytes) -> bytes:
    """Sixteen hexadecimal digits."""
    named = b"%d %b %b %b" % (_FORMAT, run_id, replication_id, nonce)
    return hashlib.blake2s(named, digest_size=8).hexdigest().encode()
