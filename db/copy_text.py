"""Encode activities as blocks of rows in COPY's text format, faster than the driver does it field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import msgspec

from db.errors import InvalidInput
from db.models import NewActivity
from db.validation import Month, bigint, json_object, partition_month, text, timestamp

# Large enough that a block's round trips do not matter, small enough to bound memory.
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
    # The owners of the feeds that contain the rows.
    user_ids: frozenset[int]
    repo_ids: frozenset[int | None]


class Owners:
    """The owners of the feeds that a bulk load writes to. More than MOST are not kept, to bound memory."""

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
    """Yield the activities in blocks of about 1 MB.

    An invalid activity is skipped and passed to `on_reject` with its InvalidInput; without `on_reject` that is raised.
    """
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
            # A month is checked once per block.
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
        # JSON escapes control characters, so that only the backslash is special to COPY.
        _encode_json(json_object("data", activity.data)).replace(b"\\", b"\\\\"),
    )
    return b"\t".join(fields) + b"\n"


# A load has few distinct types.
@lru_cache(maxsize=256)
def _kind(kind: str) -> bytes:
    raw = text("type", kind, empty=False).encode()
    return raw.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
