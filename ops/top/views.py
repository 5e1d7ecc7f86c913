"""The views of `top`, their columns, and what each key does. Nothing here draws or reads a key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ops.top.snapshot import Postgres, Snapshot
from ops.top.summary import lock_tree

LEAST_INTERVAL, MOST_INTERVAL = 0.5, 60.0
_INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_LOCKS_WIDTH = 12
# Divisors and decimals, from the longest text to the shortest.
_SCALES = ((1, 1, ""), (1, 0, ""), (1e3, 0, "k"), (1e6, 0, "M"), (1e9, 0, "G"), (1e12, 0, "T"))


@dataclass(frozen=True)
class Column:
    """A column. `key` is the value that rows are sorted by, or None: numbers from the largest, text from A.

    Without a `width` the column takes the remaining space. It is shown if the terminal has `least_terminal` columns.
    """

    title: str
    cell: Callable[[Any], str]
    width: int | None = None
    key: Callable[[Any], Any] | None = None
    is_number: bool = False
    least_terminal: int = 0

    def fitted(self, row: Any) -> str:
        """Return the cell. A number that is too long is rounded, because its first digits would be another number."""
        text = self.cell(row)
        if not self.is_number or self.key is None or self.width is None or len(text) <= self.width:
            return text
        value = self.key(row)
        texts = (f"{value / divisor:,.{digits}f}{unit}" for divisor, digits, unit in _SCALES)
        return next((each for each in texts if len(each) <= self.width), f"{value:.0e}")


@dataclass(frozen=True)
class View:
    """A table. `rows` returns the rows of a snapshot. `identity` finds a row again in the next snapshot."""

    name: str
    columns: tuple[Column, ...]
    rows: Callable[[Snapshot], Sequence[Any]]
    identity: Callable[[Any], object]
    empty: str

    @property
    def sortable(self) -> list[Column]:
        return [column for column in self.columns if column.key is not None]


def number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def size(value: float | None) -> str:
    """Return bytes with a unit, such as 12 MB."""
    if value is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            break
        value /= 1024
    return f"{value:.0f} {unit}"


def duration(value: float | None) -> str:
    """Return a duration in at most five characters, such as 0.3s, 12s, 45m or 7h."""
    if value is None:
        return "-"
    if value < 10:
        return f"{max(value, 0):.1f}s"
    for unit, seconds in (("s", 1), ("m", 60), ("h", 3600), ("d", 86400)):
        if value < 100 * seconds or unit == "d":
            return f"{value / seconds:.0f}{unit}"
    raise AssertionError


def state(session: Any) -> str:
    """Return a session's state in at most eight characters."""
    return str(session.state or "-").replace("idle in transaction", "idle tx").replace("(aborted)", "!")


def _wait(session: Any) -> str:
    # A session that waits for its client does nothing wrong.
    return "" if session.wait_type in (None, "Client") else f"{session.wait_type}:{session.wait}"


def _locks_process(row: Any) -> str:
    """Return a process ID, indented as far as the column has room."""
    process = str(row[1] or "prepared")
    return f"{('  ' * row[0])[: _LOCKS_WIDTH - len(process)]}{process}"


def _or_zero(value: float | None) -> float:
    return value or 0.0


SESSIONS = View(
    "Sessions",
    (
        Column("PID", lambda row: str(row.pid), 7, lambda row: row.pid, True),
        Column("LOGIN", lambda row: row.login or "-", 11, lambda row: row.login or ""),
        Column("APPLICATION", lambda row: row.application, 18, lambda row: row.application, False, 110),
        Column("CLIENT", lambda row: row.client or "local", 15, None, False, 140),
        Column("STATE", state, 8, lambda row: row.state or ""),
        Column("WAITS FOR", _wait, 16, _wait),
        Column(
            "TX",
            lambda row: duration(row.transaction_seconds),
            5,
            lambda row: _or_zero(row.transaction_seconds),
            True,
        ),
        Column(
            "SINCE", lambda row: duration(row.state_seconds), 5, lambda row: _or_zero(row.state_seconds), True
        ),
        Column("STATEMENT", lambda row: row.statement),
    ),
    lambda snapshot: snapshot.postgres.sessions,
    lambda row: row.pid,
    "no sessions",
)
LOCKS = View(
    "Locks",
    (
        Column("PID", _locks_process, _LOCKS_WIDTH),
        Column("LOGIN", lambda row: (row[2].login or "-") if row[2] else "-", 11),
        Column("STATE", lambda row: state(row[2]) if row[2] else "-", 8),
        Column("WAITS", lambda row: duration(row[2].lock_seconds) if row[2] else "-", 5, None, True),
        Column("FOR", lambda row: (row[2].lock or "holds") if row[2] else "holds", 16),
        Column("STATEMENT", lambda row: row[2].statement if row[2] else ""),
    ),
    lambda snapshot: lock_tree(snapshot.postgres.sessions),
    lambda row: row[1],
    "no session waits for a lock",
)
STATEMENTS = View(
    "Statements",
    (
        Column("LOAD", lambda row: number(row.load, 2), 6, lambda row: row.load, True),
        Column(
            "CALLS/S", lambda row: number(row.calls_per_second, 1), 8, lambda row: row.calls_per_second, True
        ),
        Column("MEAN ms", lambda row: number(row.mean_ms, 2), 9, lambda row: row.mean_ms, True),
        Column("ROWS/S", lambda row: number(row.rows_per_second), 8, lambda row: row.rows_per_second, True),
        Column("HIT %", lambda row: number(row.buffer_hit_rate, 1), 5, None, True),
        Column("LOGIN", lambda row: row.login, 11, None),
        Column("STATEMENT", lambda row: row.statement),
    ),
    lambda snapshot: snapshot.postgres.statements or (),
    lambda row: (row.login, row.query_id),
    "no statement was called",
)
SERVERS = View(
    "Servers",
    (
        Column("SERVER", lambda row: row[0], 20),
        Column("ROLE", lambda row: row[1], 12),
        Column("STATE", lambda row: row[2], 10),
        Column("LAG", lambda row: row[3], 8, None, True),
        Column("DELAY", lambda row: row[4], 5, None, True),
        Column("UP", lambda row: row[5], 5, None, True),
        Column("DETAIL", lambda row: row[6]),
    ),
    lambda snapshot: servers(snapshot),
    lambda row: row[:2],
    "no servers",
)
CACHE = View(
    "Cache",
    (
        Column("JOB", lambda row: row.job, 16),
        Column("ENTITY", lambda row: row.entity, 20, lambda row: row.entity),
        Column("READS", lambda row: number(row.count), 10, lambda row: row.count, True),
        Column("NEAR %", lambda row: number(row.near, 1), 8, lambda row: _or_zero(row.near), True),
        Column("REDIS %", lambda row: number(row.redis, 1), 8, lambda row: _or_zero(row.redis), True),
        Column(
            "DATABASE %", lambda row: number(row.database, 1), 10, lambda row: _or_zero(row.database), True
        ),
    ),
    lambda snapshot: snapshot.cache.entities,
    lambda row: (row.job, row.entity),
    "no reads",
)
VIEWS = (SESSIONS, LOCKS, STATEMENTS, SERVERS, CACHE)


def servers(snapshot: Snapshot) -> list[tuple[str, ...]]:
    """Return the rows of the view of servers: primaries, their replicas, and the access service."""
    rows: list[tuple[str, ...]] = []
    advice = f"see `groundwork status --stack {snapshot.stack}`"
    for kind, server in (("Postgres", snapshot.postgres), ("Redis", snapshot.redis)):
        up = duration(server.uptime_seconds)
        detail = f"{server.address}, version {server.version}" if server.version else server.reason or ""
        rows.append((kind, "primary", "up" if server.is_up else "down", "", "", up, detail))
        for replica in server.replicas:
            role = "sync replica" if replica.is_synchronous else "replica"
            lag = (size(replica.lag_bytes), duration(replica.lag_seconds))
            rows.append((f"  {replica.name}", role, replica.state, *lag, "", replica.address or ""))
        if isinstance(server, Postgres):
            rows += [(f"  {name}", "", "", "", "", "", state) for name, state in server.servers.items()]
        for name in server.missing:
            rows.append((f"  {name}", "replica", "down", "", "", "", advice))
        if server.is_up and not server.missing:
            # On AWS, the servers have no names here.
            missing = server.expected_replicas - len(server.replicas)
            if missing > 0:
                rows.append((f"  {missing} missing", "replica", "down", "", "", "", advice))
    if snapshot.access is not None:
        access = snapshot.access
        is_up = "up" if access.is_up else "down"
        rows.append(("Access", "service", is_up, "", "", "", access.reason or access.address))
    return rows


@dataclass(frozen=True)
class Display:
    """What the user has chosen. `selected` is a row's identity, and `position` where that row was last."""

    interval: float
    view: View = SESSIONS
    sort: int = 0
    is_reversed: bool = False
    selected: object = None
    position: int = 0
    is_paused: bool = False
    hides_idle: bool = False
    shows_help: bool = False
    shows_details: bool = False
    # The first line of the details on the screen.
    scrolled: int = 0
    has_quit: bool = False


def rows_of(display: Display, snapshot: Snapshot) -> list[Any]:
    """Return the rows of the view, sorted and filtered."""
    rows = list(display.view.rows(snapshot))
    if display.view is SESSIONS:
        if display.hides_idle:
            rows = [row for row in rows if not row.is_idle]
        # The oldest transaction first, and idle sessions last.
        rows.sort(key=lambda row: (row.is_idle, -_or_zero(row.transaction_seconds), row.pid))
    if display.sort:
        column = display.view.sortable[display.sort - 1]
        rows.sort(key=column.key, reverse=column.is_number)
    return rows[::-1] if display.is_reversed else rows


def sorted_by(display: Display) -> str:
    """Return the title of the column that the rows are sorted by, or an empty text for the view's own order."""
    return display.view.sortable[display.sort - 1].title if display.sort else ""


def position_of(display: Display, rows: Sequence[Any]) -> int:
    """Return the index of the selected row, or of the row that has taken its place."""
    for index, row in enumerate(rows):
        if display.view.identity(row) == display.selected:
            return index
    return max(min(display.position, len(rows) - 1), 0)


def press(display: Display, key: str, rows: Sequence[Any], page: int, hidden: int = 0) -> Display:
    """Return the display after a key.

    `rows` are those shown now, `page` is how many fit on the screen, and `hidden` the number of lines of the details
    that do not fit.
    """
    if key == "q":
        return replace(display, has_quit=True)
    if display.shows_help or (display.shows_details and key in ("escape", "enter")):
        return replace(display, shows_help=False, shows_details=False)
    moves = {
        "up": -1,
        "k": -1,
        "down": 1,
        "j": 1,
        "page up": -page,
        "page down": page,
        "home": -sys.maxsize,
        "end": sys.maxsize,
    }
    if key in moves and display.shows_details:
        return replace(display, scrolled=max(min(display.scrolled + moves[key], hidden), 0))
    if key in moves:
        position = max(min(position_of(display, rows) + moves[key], len(rows) - 1), 0)
        selected = display.view.identity(rows[position]) if rows else None
        return replace(display, position=position, selected=selected)
    if key == "enter":
        position = position_of(display, rows)
        selected = display.view.identity(rows[position]) if rows else None
        return replace(display, shows_details=bool(rows), scrolled=0, position=position, selected=selected)
    views = {str(index): view for index, view in enumerate(VIEWS, 1)}
    views["tab"] = VIEWS[(VIEWS.index(display.view) + 1) % len(VIEWS)]
    if key in views:
        return Display(
            display.interval, views[key], is_paused=display.is_paused, hides_idle=display.hides_idle
        )
    if key in ("+", "-"):
        return replace(display, interval=_next_interval(display.interval, key))
    toggled = {
        " ": {"is_paused": not display.is_paused},
        "r": {"is_reversed": not display.is_reversed},
        "i": {"hides_idle": not display.hides_idle},
        "s": {"sort": (display.sort + 1) % (len(display.view.sortable) + 1)},
        "?": {"shows_help": True},
        "h": {"shows_help": True},
        "escape": {"selected": None, "position": 0},
    }
    return replace(display, **toggled.get(key, {}))  # type: ignore[arg-type]


def _next_interval(interval: float, key: str) -> float:
    if key == "+":
        return min((each for each in _INTERVALS if each > interval), default=interval)
    return max((each for each in _INTERVALS if each < interval), default=interval)
