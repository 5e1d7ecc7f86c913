"""What an entry is in bytes: `{stamp}:{version}:{expiry}:{cost}:` and the packed value; or `{stamp}:-`, an absence.

The stamp is the epoch's tag, or a feed's generation. The numbers are for the scripts, which compare versions, and
for refresh ahead: when the entry expires (ms since 1970) and how long the database took to give it (ms).
"""

from __future__ import annotations

import math
import random
from time import time

from cache.errors import UndecodableEntry

# How eagerly entries are refreshed before they expire; 1 is what the analysis of XFetch calls optimal.
BETA = 1.0


def entry(stamp: bytes, version: int, life_ms: int, cost_ms: int, packed: bytes) -> bytes:
    return b"%b:%d:%d:%d:%b" % (stamp, version, int(time() * 1000) + life_ms, cost_ms, packed)


def absence(stamp: bytes) -> bytes:
    return stamp + b":-"


def packed_in(raw: bytes) -> bytes | None:
    """The packed value, or None in an absence. UndecodableEntry for anything else."""
    parts = raw.split(b":", 4)
    if len(parts) == 5 and parts[1].isdigit() and parts[2].isdigit() and parts[3].isdigit():
        return parts[4]
    if len(parts) == 2 and parts[1] == b"-":
        return None
    raise UndecodableEntry("an entry without version, expiry and cost")


def header_of(raw: bytes) -> bytes:
    """What stands before the packed value; no two entries of a key have it in common."""
    return b":".join(raw.split(b":", 4)[:4]) + b":"


def is_due(raw: bytes) -> bool:
    """Whether the reader of this entry is the one to have it refreshed (XFetch).

    The nearer its end and the dearer it was, the likelier; so that one of many readers does it in time.
    """
    parts = raw.split(b":", 4)
    if len(parts) < 5:
        return False
    return -BETA * int(parts[3]) * math.log(1.0 - random.random()) >= int(parts[2]) - time() * 1000
