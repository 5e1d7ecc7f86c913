"""Activities as rows of COPY's text format, in blocks: what the driver would do field by field, faster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import msgspec

from db.errors import InvalidInput
from db.models import NewActivity
from db.validation import Month, bigint, json_object, partition_month, text, timestamp

# Large enough that a block's COPY outweighs its round trips, small enough that memory stays where it is.
BLOCK_BYTES = 1 << 20
_NULL = b"\\N"
_encode_json = msgspec.json.Encoder().encode
Reject = Callable[[NewActivity, InvalidInput], object]


@dataclass(frozen=True)
class Block:
    """Rows for one COPY, and the months (UTC) whose partitions they need."""

    data: bytes
    rows: int
    months: frozenset[Month]
    # Whose feeds the rows are in.
    user_ids: frozenset[int]
    repo_ids: frozenset[int | None]


class Owners:
    """Whose feeds a bulk load is in. Beyond MOST they are not kept: memory is not to grow with the load."""

    MOST = 20_000

    def __init__(self) -> None:
        self.user_ids: set[int] = set()
        self.repo_ids: set[int | None] = set()
        self.are_too_many = False

    def add(self, block: Block) -> None:
        if self.are_too_many:
            return
        self.user_ids |= block.user_ids
        self.repo_ids |= block.repo_ids
        if len(self.user_ids) + len(self.repo_ids) > self.MOST:
            self.are_too_many = True
            self.user_ids, self.repo_ids = set(), set()


def blocks(activities: Iterable[NewActivity], on_reject: Reject | None) -> Iterator[Block]:
    """The activities in blocks of about a megabyte. One that cannot be stored goes to `on_reject`, or raises."""
    lines: list[bytes] = []
    users: set[int] = set()
    repositories: set[int | None] = set()
    months: set[Month] = set()
    size = 0

    def block() -> Block:
        return Block(
            b"".join(lines), len(lines), frozenset(months), frozenset(users), frozenset(repositories)
        )

    for activity in activities:
        try:
            at = timestamp("timestamp", activity.timestamp)
            line = _line(activity, at)
            # One of a month that another has been found good for is good as well.
            if (at.year, at.month) not in months:
                months.add(partition_month("timestamp", at))
        except InvalidInput as error:
            if on_reject is None:
                raise
            on_reject(activity, error)
            continue
        lines.append(line)
        users.add(activity.user_id)
        repositories.add(activity.repo_id)
        size += len(line)
        if size >= BLOCK_BYTES:
            yield block()
            lines, size, months, users, repositories = [], 0, set(), set(), set()
    if lines:
        yield block()


def _line(activity: NewActivity, at: datetime) -> bytes:
    event, repo, kind = activity.github_event_id, activity.repo_id, activity.type
    fields = (
        _NULL if event is None else b"%d" % bigint("github_event_id", event, least=1),
        b"%d" % bigint("user_id", activity.user_id),
        _NULL if repo is None else b"%d" % bigint("repo_id", repo),
        _kind(kind if isinstance(kind, str) else text("type", kind)),
        at.isoformat().encode(),
        # JSON escapes control characters itself: only the backslash means something to COPY.
        _encode_json(json_object("data", activity.data)).replace(b"\\", b"\\\\"),
    )
    return b"\t".join(fields) + b"\n"


# The types of a load are few, however many its rows.
@lru_cache(maxsize=256)
def _kind(kind: str) -> bytes:
    raw = text("type", kind, empty=False).encode()
    return raw.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
