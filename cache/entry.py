"""What an entry is in bytes: `{stamp}:{version}:{expiry}:{cost}:` and the packed value; or `{stamp}:-`, an absence.

The stamp is the epoch's tag, or a feed's generation. The numbers are for the scripts, which compare versions, and
for refresh ahead: when the entry expires (ms since 1970) and how long the database took to give it (ms).
"""

from __future__ import annotations

import math
import random
import re
from time import time
from typing import NamedTuple

from cache.errors import EntryTooLarge, UndecodableEntry

# How eagerly entries are refreshed before they expire; 1 is what the analysis of XFetch calls optimal.
BETA = 1.0
# A call has a tenth of a second: what cannot be carried in it would look as if Redis were ill, to all of the process.
MOST_BYTES = 1 << 20
# Expiry and cost are its groups.
_match = re.compile(rb"[^:]*:\d+:(\d+):(\d+):").match


def entry(stamp: bytes, version: int, life_ms: int, cost_ms: int, packed: bytes) -> bytes:
    """An entry's bytes. EntryTooLarge where the value has more than MOST_BYTES."""
    if len(packed) > MOST_BYTES:
        raise EntryTooLarge(f"{len(packed)} bytes packed, of {MOST_BYTES} at most")
    return b"%b:%d:%d:%d:%b" % (stamp, version, int(time() * 1000) + life_ms, cost_ms, packed)


def absence(stamp: bytes) -> bytes:
    return stamp + b":-"


def packed_in(raw: bytes) -> bytes | None:
    """The packed value, or None in an absence. UndecodableEntry for anything else."""
    header = _match(raw)
    if header is not None:
        return raw[header.end() :]
    if raw.endswith(b":-") and raw.count(b":") == 1:
        return None
    raise UndecodableEntry("an entry without version, expiry and cost")


class Header(NamedTuple):
    """What stands before a packed value: times in ms, `expires_at` since 1970. None in an absence, but the stamp."""

    stamp: bytes
    version: int | None = None
    expires_at: int | None = None
    cost: int | None = None


def read_header(raw: bytes) -> Header:
    """An entry's header. UndecodableEntry for what is no entry."""
    if packed_in(raw) is None:
        return Header(raw.partition(b":")[0])
    stamp, version, expires_at, cost, _ = raw.split(b":", 4)
    return Header(stamp, int(version), int(expires_at), int(cost))


def header_of(raw: bytes) -> bytes:
    """What stands before the packed value; no two entries of a key have it in common."""
    header = _match(raw)
    return b"" if header is None else header[0]


def is_due(raw: bytes) -> bool:
    """Whether the reader of this entry is the one to have it refreshed (XFetch).

    The nearer its end and the dearer it was, the likelier; so that one of many readers does it in time.
    """
    header = _match(raw)
    if header is None:
        return False
    left_ms = int(header[1]) - time() * 1000
    return -BETA * int(header[2]) * math.log(1.0 - random.random()) >= left_ms
