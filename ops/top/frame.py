"""Draw a snapshot: a header with the most important values, one view's table, and a line of keys.

Foreign text (statements, names of applications and logins) is escaped before it becomes part of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.segment import Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from ops.printable import escaped
from ops.stack.aws_advice import for_aws
from ops.top.snapshot import Postgres, Redis, Session, Snapshot, Statement
from ops.top.views import (
    CACHE,
    LOCKS,
    SESSIONS,
    STATEMENTS,
    VIEWS,
    Display,
    View,
    duration,
    number,
    position_of,
    rows_of,
    size,
    sorted_by,
)

# The lines above and below the rows of a table.
_HEADER_LINES, _TABS_LINES, _TITLE_LINES, _FOOTER_LINES = 6, 1, 1, 1
_WARNING = "yellow"
_KEYS = "q quit  1-5 view  s sort  space pause  enter details  + - interval  ? help"
_DETAILS_KEYS = "escape return  q quit  space pause"
_HELP = (
    ("1 to 5, tab", "choose a view"),
    ("up, down, page up, page down", "select a row, or scroll its details"),
    ("enter", "show the selected row in full; enter or escape returns"),
    ("s, r", "sort by the next column; reverse the order"),
    ("i", "hide or show idle sessions"),
    ("space", "pause the display, for example to copy text"),
    ("+, -", "longer or shorter interval"),
    ("q, Ctrl-C", "quit"),
)


def rows_that_fit(height: int) -> int:
    """Return the number of rows that a terminal has room for."""
    return max(height - _HEADER_LINES - _TABS_LINES - _TITLE_LINES - _FOOTER_LINES, 1)


def text(snapshot: Snapshot, width: int) -> list[str]:
    """Return the header and the tables of all views as lines without colours."""
    console = Console(width=width, color_system=None, force_terminal=False, highlight=False, markup=False)
    lines = console.render_lines(Group(*Painter(console).all_views(snapshot)), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


class Painter:
    """Draws frames for a console, whose encoding may lack characters."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def frame(self, snapshot: Snapshot, display: Display) -> RenderableType:
        """Return a frame that fills the terminal."""
        lines, room = self._body(snapshot, display), self._room
        hidden = max(len(lines) - room, 0)
        # The details may have become shorter since the last key.
        first = min(display.scrolled, hidden)
        keys = _DETAILS_KEYS if display.shows_details else _KEYS
        if display.shows_details and hidden:
            keys += f"  up, down scroll ({hidden - first} lines below)"
        lines = lines[first : first + room]
        lines += [[]] * (room - len(lines))
        return Group(
            *self.header(snapshot, display, self._console.width),
            self._tabs(display),
            SegmentLines(lines, new_lines=True),
            self._line(keys, "dim"),
        )

    def hidden_lines(self, snapshot: Snapshot, display: Display) -> int:
        """Return the number of lines of the details that do not fit on the screen."""
        return max(len(self._body(snapshot, display)) - self._room, 0) if display.shows_details else 0

    @property
    def _room(self) -> int:
        return max(self._console.height - _HEADER_LINES - _TABS_LINES - _FOOTER_LINES, 1)

    def _body(self, snapshot: Snapshot, display: Display) -> list[list[Segment]]:
        """Return all lines of the table, the details or the help."""
        rows = rows_of(display, snapshot)
        body: Iterable[RenderableType]
        if display.shows_help:
            body = [self._line(f"{keys:<30}{what}") for keys, what in _HELP]
        elif display.shows_details:
            # Never another row in its place: its commands would end another session.
            selected = [row for row in rows if display.view.identity(row) == display.selected]
            gone = [self._line("the selected row is gone; press escape to return")]
            body = self._details(display, selected[0], snapshot) if selected else gone
        else:
            width, height = self._console.size
            body = [self._table(display, rows, width, rows_that_fit(height))]
            if not rows:
                body = [*body, self._line(self._empty(display.view, snapshot), "dim")]
        return self._console.render_lines(Group(*body), pad=False)

    def all_views(self, snapshot: Snapshot) -> list[RenderableType]:
        """Return the header and the table of each view."""
        width = self._console.width
        display = Display(snapshot.interval_seconds)
        found: list[RenderableType] = list(self.header(snapshot, display, width))
        for view in VIEWS:
            shown = replace(display, view=view)
            rows = rows_of(shown, snapshot)
            found += [Text(), self._line(view.name, "bold")]
            if rows:
                found.append(self._table(shown, rows, width, len(rows)))
            else:
                found.append(self._line(self._empty(view, snapshot)))
        return found

    def header(self, snapshot: Snapshot, display: Display, width: int) -> list[Text]:
        """Return the six lines above the table."""
        title = f"groundwork top - stack {snapshot.stack}"
        state = "PAUSED " if display.is_paused else ""
        right = f"{state}{snapshot.at[11:19]} UTC, every {display.interval:g} s"
        gap = max(width - len(title) - len(right), 1)
        return [
            self._line(f"{title}{' ' * gap}{right}", "bold"),
            *self._postgres(snapshot.postgres),
            self._redis(snapshot.redis),
            self._access(snapshot),
            self._reads(snapshot),
        ]

    def _postgres(self, server: Postgres) -> list[Text]:
        counts = server.counts
        if not server.is_up or counts is None:
            return [self._down("Postgres", server.reason), self._line("")]
        lag = max((replica.lag_bytes or 0 for replica in server.replicas), default=None)
        return [
            self._line(
                f"Postgres  {_role(server)}{'' if lag is None else f', lag {size(lag)}'}"
                f"  {number(server.commits_per_second)} commits/s  buffers {_percent(server.buffer_hit_rate)}",
                _WARNING if len(server.replicas) < server.expected_replicas else "",
            ),
            self._line(
                f"          {counts.used} of {counts.max} sessions: {counts.active} active,"
                f" {counts.waiting_for_lock} waiting, {counts.idle_in_transaction} idle in tx,"
                f" oldest tx {duration(server.oldest_transaction_seconds)}",
                _WARNING if counts.waiting_for_lock else "",
            ),
        ]

    def _redis(self, server: Redis) -> Text:
        if not server.is_up:
            return self._down("Redis", server.reason)
        most = f" of {size(server.max_bytes)}" if server.max_bytes else ""
        evicted = (
            f"  {number(server.evictions_per_second, 1)} evicted/s" if server.evictions_per_second else ""
        )
        return self._line(
            f"Redis     {_role(server)}  {number(server.commands_per_second)} commands/s"
            f"  hits {_percent(server.hit_rate)}{evicted}  {size(server.used_bytes)}{most}",
            _WARNING if evicted or len(server.replicas) < server.expected_replicas else "",
        )

    def _access(self, snapshot: Snapshot) -> Text:
        access = snapshot.access
        if access is None:
            return self._line("Access    this stack has no access service", "dim")
        if not access.is_up or access.outbox is None:
            return self._down("Access", access.reason)
        busy = sum(pool.size - pool.idle for pool in access.pools)
        most, waiting = sum(pool.max for pool in access.pools), sum(pool.waiting for pool in access.pools)
        outbox = access.outbox
        return self._line(
            f"Access    pool {busy} of {most} busy, {waiting} wait  outbox {number(outbox.rows)} rows,"
            f" oldest {duration(outbox.age_seconds)}, {number(outbox.drained_per_second, 1)} drained/s",
            _WARNING if waiting else "",
        )

    def _reads(self, snapshot: Snapshot) -> Text:
        found = snapshot.cache.all
        if found is None or not found.count:
            why = "no reads" if found is not None else snapshot.cache.source
            return self._line(f"Reads     {why}", "dim")
        return self._line(
            f"Reads     near {_percent(found.near)}  Redis {_percent(found.redis)}"
            f"  Postgres {_percent(found.database)}  ({number(found.count)} reads)"
        )

    def _down(self, server: str, reason: str | None) -> Text:
        return self._line(f"{server:<10}DOWN  {reason or 'no answer yet'}", "bold red")

    def _tabs(self, display: Display) -> Text:
        tabs = Text(no_wrap=True, overflow="crop")
        for index, view in enumerate(VIEWS, 1):
            tabs.append(f" {index} {view.name} ", style="reverse" if view is display.view else "")
        by = sorted_by(display)
        tabs.append(f"  by {by}" if by else "")
        tabs.append(", reversed" if display.is_reversed else "")
        tabs.append("  idle hidden" if display.hides_idle and display.view is SESSIONS else "")
        return tabs

    def _table(self, display: Display, rows: Sequence[Any], width: int, most: int) -> Table:
        table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        # rich would narrow all columns of a table that is too wide, and so cut process IDs and numbers.
        columns, used = [], 0
        for column in display.view.columns:
            if width >= column.least_terminal and used + (column.width or 1) <= width:
                columns.append(column)
                used += (column.width or 1) + 1
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.is_number else "left",
                width=column.width,
                ratio=None if column.width else 1,
                no_wrap=True,
                overflow="crop",
            )
        position = position_of(display, rows)
        first = max(min(position - most // 2, len(rows) - most), 0)
        for index, row in enumerate(rows[first : first + most], first):
            is_selected = display.selected is not None and index == position
            cells = [Text(self._shown(column.fitted(row))[:width]) for column in columns]
            table.add_row(*cells, style="reverse" if is_selected else _row_style(row))
        return table

    def _empty(self, view: View, snapshot: Snapshot) -> str:
        server = snapshot.postgres
        if view in (SESSIONS, LOCKS, STATEMENTS) and not server.is_up:
            return server.reason or "no answer yet"
        if view is STATEMENTS and server.statements is None:
            return "waiting for a second reading"
        if view is STATEMENTS:
            return f"no statement ended in the last {number(server.statements_seconds)} s"
        if view is CACHE:
            return snapshot.cache.source
        return view.empty

    def _details(self, display: Display, row: Any, snapshot: Snapshot) -> list[Text]:
        subject = row[2] if display.view is LOCKS else row
        if isinstance(subject, Session):
            lines = _session_lines(subject, snapshot)
        elif isinstance(subject, Statement):
            lines = [f"query id {subject.query_id}, login {subject.login}", "", subject.statement]
        else:
            lines = [f"{column.title}: {column.cell(row)}" for column in display.view.columns]
        # Wrapped and not cropped, because statements may be long.
        return [Text(self._shown(line), overflow="fold") for line in lines]

    def _line(self, text: str, style: str = "") -> Text:
        line = Text(self._shown(text), style=style, no_wrap=True, overflow="crop")
        if line.cell_len > self._console.width:
            # The mark shows that the last number of the line may lack digits.
            line.truncate(self._console.width - 1)
            line.append(">")
        return line

    def _shown(self, text: str) -> str:
        """Return foreign text that is safe to print and has only characters of the terminal's encoding."""
        encoding = self._console.encoding
        return escaped(text, keep="").encode(encoding, "backslashreplace").decode(encoding)


def _session_lines(session: Session, snapshot: Snapshot) -> list[str]:
    blocked = ", ".join(map(str, session.blocked_by))
    ends = [
        f"`groundwork psql --stack {snapshot.stack} -c 'SELECT {function}({session.pid})'`"
        for function in ("pg_cancel_backend", "pg_terminate_backend")
    ]
    if snapshot.target == "aws":
        ends = [for_aws(each, snapshot.stack) for each in ends]
    return [
        f"process {session.pid}, login {session.login}, application {session.application or '-'},"
        f" client {session.client or 'local'}, database {session.database}",
        f"{session.state} for {duration(session.state_seconds)}, transaction {duration(session.transaction_seconds)},"
        f" waits for {session.wait_type or '-'}:{session.wait or '-'}",
        *(
            [f"waits {duration(session.lock_seconds)} for {session.lock}, held by {blocked}"]
            if blocked
            else []
        ),
        "",
        "cancel its statement, or end the session:",
        *ends,
        "",
        session.statement,
    ]


def _row_style(row: Any) -> str:
    if isinstance(row, Session):
        return "dim" if row.is_idle else _WARNING if row.blocked_by else ""
    return "red" if isinstance(row, tuple) and "down" in row else ""


def _role(server: Postgres | Redis) -> str:
    expected = max(server.expected_replicas, len(server.replicas))
    return f"primary, {len(server.replicas)} of {expected} replicas" if expected else "primary"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}%"
