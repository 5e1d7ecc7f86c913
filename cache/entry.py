"""The byte format of cache entries.

An entry is `{stamp}:{version}:{expiry}:{cost}:` followed by the packed value, or `{stamp}:-` for a known absence.
The stamp is the epoch's tag or a feed's generation. The Lua scripts compare versions. Refresh ahead uses the expiry (in
ms since 1970) and the cost (the time that the database took, in ms).
"""

from __future__ import annotations

import math
import random
import re
from time import time
from typing import NamedTuple

from cache.errors import EntryTooLarge, UndecodableEntry

# XFetch's parameter for how early entries are refreshed before they expire. 1 is the optimum of its analysis.
BETA = 1.0
# A call has 0.1 s. A larger value could exceed it, which would open the breaker for the whole process.
MOST_BYTES = 1 << 20
# Its groups are expiry and cost. Python converts no number of more than 4300 digits, and none of 309 to a float.
_match = re.compile(rb"[^:]*:\d{1,19}:(\d{1,19}):(\d{1,19}):").match


def entry(stamp: bytes, version: int, life_ms: int, cost_ms: int, packed: bytes) -> bytes:
    """Return an entry that expires `life_ms` from now. Raises EntryTooLarge for values above MOST_BYTES."""
    if len(packed) > MOST_BYTES:
        raise EntryTooLarge(f"the packed value has {len(packed)} bytes; at most {MOST_BYTES} are cached")
    return b"%b:%d:%d:%d:%b" % (stamp, version, int(time() * 1000) + life_ms, cost_ms, packed)


def absence(stamp: bytes) -> bytes:
    return stamp + b":-"


def packed_in(raw: bytes) -> bytes | None:
    """Return the packed value, or None for an absence. Raises UndecodableEntry for anything else."""
    header = _match(raw)
    if header is not None:
        return raw[header.end() :]
    if raw.endswith(b":-") and raw.count(b":") == 1:
        return None
    raise UndecodableEntry("the entry has no version, expiry and cost")


class Header(NamedTuple):
    """The header of an entry. An absence has only the stamp.

    `expires_at` is in ms since 1970; `cost` is in ms.
    """

    stamp: bytes
    version: int | None = None
    expires_at: int | None = None
    cost: int | None = None


def read_header(raw: bytes) -> Header:
    """Return the parsed header of an entry. Raises UndecodableEntry for anything else."""
    if packed_in(raw) is None:
        return Header(raw.partition(b":")[0])
    stamp, version, expires_at, cost, _ = raw.split(b":", 4)
    return Header(stamp, int(version), int(expires_at), int(cost))


def header_of(raw: bytes) -> bytes:
    """Return the bytes before the packed value, which identify the entry among those of its key."""
    header = _match(raw)
    return b"" if header is None else header[0]


def is_due(raw: bytes) -> bool:
    """Return whether this read should refresh the entry ahead of its expiry (XFetch).

    The probability rises as the expiry approaches and with the entry's cost, so that one of many readers refreshes it
    in time.
    """
    header = _match(raw)
    if header is None:
        return False
    left_ms, cost_ms = int(header[1]) - time() * 1000, int(header[2])
    # random() has 53 bits, so -log(1 - random()) is at most 36.8. The first comparison decides nearly all reads.
    return left_ms <= 37 * BETA * cost_ms and -BETA * cost_ms * math.log(1.0 - random.random()) >= left_ms
