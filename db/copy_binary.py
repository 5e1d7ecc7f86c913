"""Encode activities as blocks of rows in COPY's binary format, faster than the driver does it field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct

from db.errors import InvalidInput
from db.models import NewActivity
from db.validation import Month, bigint, encoded_object, indexed_text, partition_month, text, timestamp

# Large enough that a block's round trips do not matter, small enough to bound memory.
BLOCK_BYTES = 1 << 20
# The server waits for the first block, so that one is small, and each next one is four times as large.
_FIRST_BYTES = 1 << 16
_GROWTH = 4
# The signature, no flags, and no further header.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# The server does not convert binary fields, so the columns must have these types.
COLUMN_TYPES = ("int8", "int8", "int8", "text", "timestamptz", "jsonb")
# A row is the number of fields, then each field with its length before it. The length of NULL is -1.
_FIELDS = len(COLUMN_TYPES)
_NULL = -1
# github_event_id, user_id and repo_id, for each combination of NULLs.
_ids = Struct("!hiqiqiq").pack
_ids_without_event = Struct("!hiiqiq").pack
_ids_without_repo = Struct("!hiqiqi").pack
_ids_of_user = Struct("!hiiqi").pack
_length = Struct("!i").pack
# The timestamp, then the length and version of the JSON.
_timestamp_and_json = Struct("!iqib").pack
_JSON_VERSION = 1
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
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
    """Yield the activities in blocks of at most about 1 MB.

    An invalid activity is skipped and passed to `on_reject` with its InvalidInput; without `on_reject` that is raised.
    """
    lines: list[bytes] = []
    users: set[int] = set()
    repositories: set[int | None] = set()
    months: set[Month] = set()
    size, limit = 0, min(_FIRST_BYTES, BLOCK_BYTES)

    def block() -> Block:
        return Block(
            copy_data(lines), len(lines), frozenset(months), frozenset(users), frozenset(repositories)
        )

    for activity in activities:
        try:
            at = timestamp("timestamp", activity.timestamp)
            line, user, repo = _line(activity, at)
            # A month is checked once per block.
            if (at.year, at.month) not in months:
                months.add(partition_month("timestamp", at))
        except InvalidInput as error:
            if on_reject is None:
                raise
            on_reject(activity, error)
            continue
        lines.append(line)
        users.add(user)
        repositories.add(repo)
        size += len(line)
        if size >= limit:
            yield block()
            limit = min(limit * _GROWTH, BLOCK_BYTES)
            lines, size, months, users, repositories = [], 0, set(), set(), set()
    if lines:
        yield block()


def _line(activity: NewActivity, at: datetime) -> tuple[bytes, int, int | None]:
    """Return an activity's row, with its ids of user and repository as plain ints."""
    event, repo, kind = activity.github_event_id, activity.repo_id, activity.type
    user = bigint("user_id", activity.user_id)
    if event is not None:
        event = bigint("github_event_id", event, least=1)
    if repo is not None:
        repo = bigint("repo_id", repo)
    _, data = encoded_object("data", activity.data)
    line = row(
        event,
        user,
        repo,
        kind if isinstance(kind, str) else text("type", kind),
        at,
        data,
    )
    return line, user, repo


def row(event: int | None, user: int, repo: int | None, kind: str, at: datetime, data: bytes) -> bytes:
    """Return a row of valid values: GitHub's event id, our ids of user and repository, type, time in UTC, and JSON."""
    if repo is not None:
        ids = (
            _ids_without_event(_FIELDS, _NULL, 8, user, 8, repo)
            if event is None
            else _ids(_FIELDS, 8, event, 8, user, 8, repo)
        )
    elif event is not None:
        ids = _ids_without_repo(_FIELDS, 8, event, 8, user, _NULL)
    else:
        ids = _ids_of_user(_FIELDS, _NULL, 8, user, _NULL)
    since = at - _EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return ids + _kind(kind) + _timestamp_and_json(8, microseconds, len(data) + 1, _JSON_VERSION) + data


def copy_data(rows: Iterable[bytes]) -> bytes:
    """Return rows as the data of a COPY."""
    return b"".join((_HEADER, *rows, _TRAILER))


# A load has few distinct types.
@lru_cache(maxsize=256)
def _kind(kind: str) -> bytes:
    raw = indexed_text("type", kind, empty=False).encode()
    return _length(len(raw)) + raw
