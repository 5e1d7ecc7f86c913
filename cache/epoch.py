"""The epoch of a Redis server. Every entry begins with its tag, and an entry of another epoch is a miss.

A restart may restore entries that had been invalidated, and so may a promoted replica. Both change the server's run id
or replication id, and therefore the epoch.

The epoch also depends on a nonce stored in Redis. Replacing it flushes the namespace in one step. A process relies on
what the server reported for RELIANCE_SECONDS. After that time, every process uses the new nonce.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from cache.forking import Exclusion, register

# Increment it when the byte format of entries changes, so that old entries are not decoded.
_FORMAT = 2
# More than the interval of 1 s at which the server is asked in the background. A later call asks first.
RELIANCE_SECONDS = 1.5


class ServerIdentity(NamedTuple):
    """What the server reported: run_id and master_replid of INFO, and the namespace's nonce.

    The nonce is `{nonce} {entity}={nonce} ...`: that of the namespace, and one for each entity that was flushed
    separately. All are in one key, because the eviction of a single one would restore what was flushed.
    """

    run_id: bytes
    replication_id: bytes
    nonce: bytes

    def tag_of(self, entity: str) -> bytes:
        shared, *own = self.nonce.split(b" ")
        nonce = b" ".join([shared, *(part for part in own if part.startswith(entity.encode() + b"="))])
        return tag_of(self.run_id, self.replication_id, nonce)


class EntityEpoch:
    """The epoch of one entity. It differs from the namespace's if the entity was flushed separately."""

    def __init__(self, epoch: Epoch, entity: str) -> None:
        self._epoch = epoch
        self._entity = entity
        self.tag = b""
        self._stamp = b""
        self.turn()

    def stamp(self) -> bytes | None:
        """Return the beginning of all current entries, or None if the server must be asked first."""
        return None if self._epoch.is_overdue else self._stamp

    def is_current(self, tag: bytes) -> bool:
        """Return whether `tag` is still the current tag."""
        return tag == self.tag and not self._epoch.is_overdue

    def turn(self) -> None:
        """Update the tag to what the server last reported."""
        self.tag = self._epoch.tag_of(self._entity)
        self._stamp = self.tag + b":"


class Epoch:
    """The current tags, as the server last reported them. Before the first report no entry matches them."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._exclusively = Exclusion()
        self._questions = itertools.count(1)
        self._answered = 0
        self._good_until = 0.0
        # Used if Redis has no memory left for a nonce: then this process reads only its own entries.
        self._own_nonce = secrets.token_hex(8).encode()
        self._identity = ServerIdentity(b"", b"", self._own_nonce)
        # The identity that every view was last updated to.
        self._applied: ServerIdentity | None = self._identity
        self._views: dict[str, EntityEpoch] = {}
        register(self)

    def after_fork(self) -> None:
        # The child's first call asks the server. A nonce of the parent's own would make its entries the child's.
        self._good_until = 0.0
        self._own_nonce = secrets.token_hex(8).encode()

    @property
    def tag(self) -> bytes:
        """The tag of entities that were never flushed separately."""
        return self.tag_of("")

    @property
    def is_overdue(self) -> bool:
        """Whether the server must be asked before its entries are used."""
        return monotonic() > self._good_until

    def of(self, entity: str) -> EntityEpoch:
        return self._views.setdefault(entity, EntityEpoch(self, entity))

    def tag_of(self, entity: str) -> bytes:
        return self._identity.tag_of(entity)

    def doubt(self) -> None:
        """Discard what is known, because the nonce may have been replaced. Pending answers are ignored."""
        self._exclusively(self._doubt)

    def _doubt(self) -> None:
        self._good_until = 0.0
        self._answered = next(self._questions)

    def question(self) -> tuple[int, float]:
        """Return the number and the time of a question to the server. The answer to the latest question counts."""
        return next(self._questions), monotonic()

    def learn(self, question: tuple[int, float], information: bytes, nonce: bytes | None) -> None:
        """Process the server's answer to a question: its INFO and the nonce."""
        fields = fields_of(information)
        identity = ServerIdentity(fields[b"run_id"], fields[b"master_replid"], nonce or self._own_nonce)
        self._exclusively(self._learn, question, identity)

    def _learn(self, question: tuple[int, float], identity: ServerIdentity) -> None:
        number, asked_at = question
        if number < self._answered:
            return
        self._answered = number
        self._identity = identity
        if identity != self._applied:
            # Until all of it is done, the server must be asked again: a signal handler may raise in between.
            self._applied, self._good_until = None, 0.0
            for view in self._views.values():
                view.turn()
            self._on_change()
            self._applied = identity
        self._good_until = asked_at + RELIANCE_SECONDS


def fields_of(information: bytes) -> dict[bytes, bytes]:
    """Parse the answer to INFO."""
    return dict(line.partition(b":")[::2] for line in information.splitlines())


def tag_of(run_id: bytes, replication_id: bytes, nonce: bytes) -> bytes:
    """Return the tag: 16 hexadecimal digits."""
    named = b"%d %b %b %b" % (_FORMAT, run_id, replication_id, nonce)
    return hashlib.blake2s(named, digest_size=8).hexdigest().encode()
