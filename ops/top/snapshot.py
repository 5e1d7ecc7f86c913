"""What `groundwork top` shows at one moment. As JSON, these are the fields of `--once --json` (docs/top.md).

A value is None if it is not known: the server does not answer, or a rate has no earlier reading to compare with.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    pass


class Session(_Part, frozen=True, kw_only=True):
    """A session of Postgres. `statement` has no literals. `blocked_by` are the processes whose locks it waits for."""

    pid: int
    login: str | None
    application: str
    client: str | None
    database: str | None
    state: str | None
    wait_type: str | None
    wait: str | None
    state_seconds: float | None
    transaction_seconds: float | None
    blocked_by: tuple[int, ...]
    lock: str | None
    lock_seconds: float | None
    statement: str

    @property
    def is_idle(self) -> bool:
        return self.state == "idle"


class Statement(_Part, frozen=True, kw_only=True):
    """A statement of pg_stat_statements, over the last seconds. `load` is the mean number of sessions that ran it."""

    query_id: int
    login: str
    load: float
    calls_per_second: float
    mean_ms: float
    rows_per_second: float
    buffer_hit_rate: float | None
    statement: str


class Replica(_Part, frozen=True, kw_only=True):
    """A replica, as its primary sees it. `lag_seconds` is None if there is nothing to replay."""

    name: str
    address: str | None
    state: str
    is_synchronous: bool | None
    lag_bytes: int | None
    lag_seconds: float | None


class Sessions(_Part, frozen=True, kw_only=True):
    """The number of client sessions by state. `max` is how many the server accepts from roles without privileges."""

    used: int
    max: int
    active: int
    idle_in_transaction: int
    waiting_for_lock: int


class Postgres(_Part, frozen=True, kw_only=True):
    """The primary of Postgres. Without an answer, `reason` says why. `missing` names the lost replicas.

    `servers` is the state of each server if none is the primary.
    """

    is_up: bool
    reason: str | None
    address: str
    version: str | None = None
    uptime_seconds: float | None = None
    expected_replicas: int = 0
    replicas: tuple[Replica, ...] = ()
    missing: tuple[str, ...] = ()
    servers: dict[str, str] = {}
    commits_per_second: float | None = None
    rollbacks_per_second: float | None = None
    buffer_hit_rate: float | None = None
    temporary_bytes_per_second: float | None = None
    deadlocks: int | None = None
    oldest_transaction_seconds: float | None = None
    counts: Sessions | None = None
    sessions: tuple[Session, ...] = ()
    statements: tuple[Statement, ...] | None = None
    statements_seconds: float | None = None


class Redis(_Part, frozen=True, kw_only=True):
    """The primary of Redis. `hit_rate` is that of the lookups since the previous reading."""

    is_up: bool
    reason: str | None
    address: str
    version: str | None = None
    uptime_seconds: float | None = None
    expected_replicas: int = 0
    replicas: tuple[Replica, ...] = ()
    missing: tuple[str, ...] = ()
    clients: int | None = None
    commands_per_second: float | None = None
    hit_rate: float | None = None
    used_bytes: int | None = None
    max_bytes: int | None = None
    evictions_per_second: float | None = None
    expirations_per_second: float | None = None


class Pool(_Part, frozen=True, kw_only=True):
    """The access service's connection pools of one name."""

    name: str
    size: int
    idle: int
    max: int
    waiting: int
    requests_per_second: float | None
    queued_per_second: float | None


class Outbox(_Part, frozen=True, kw_only=True):
    """Writes whose cache entries are not invalidated yet."""

    rows: int | None
    age_seconds: float | None
    drained_per_second: float | None


class Access(_Part, frozen=True, kw_only=True):
    """The access service."""

    is_up: bool
    reason: str | None
    address: str
    pools: tuple[Pool, ...] = ()
    outbox: Outbox | None = None


class Reads(_Part, frozen=True, kw_only=True):
    """Reads of one entity, or of all, and the share in percent that each layer answered."""

    job: str
    entity: str
    count: float
    near: float | None
    redis: float | None
    database: float | None


class Cache(_Part, frozen=True, kw_only=True):
    """The applications' reads by layer. `source` says whose reads these are, or why they are not known."""

    source: str
    all: Reads | None = None
    entities: tuple[Reads, ...] = ()


class Snapshot(_Part, frozen=True, kw_only=True):
    """All servers of a stack. `access` is None if the stack has no access service."""

    stack: str
    # `docker` or `aws`.
    target: str
    at: str
    interval_seconds: float
    postgres: Postgres
    redis: Redis
    access: Access | None
    cache: Cache

    @property
    def is_complete(self) -> bool:
        """Return whether every server answered."""
        return self.postgres.is_up and self.redis.is_up and (self.access is None or self.access.is_up)


def document(snapshot: Snapshot) -> dict[str, Any]:
    """Return the snapshot as a JSON document, with shares and rates rounded."""
    found = _rounded(msgspec.to_builtins(snapshot))
    assert isinstance(found, dict)
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
