"""Keys change the display, and frames fit the terminal and contain no control character of a stranger."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import product
from typing import Any

from msgspec import structs
from rich.console import Console
from rich.screen import Screen

import ops.top.snapshot as snapshots_module
from ops.top.frame import Painter, text
from ops.top.snapshot import Cache, Reads, Replica, document
from ops.top.terminal import keys
from ops.top.views import (
    CACHE,
    LOCKS,
    SERVERS,
    SESSIONS,
    STATEMENTS,
    VIEWS,
    Column,
    Display,
    press,
    rows_of,
    servers,
)
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation.pages import ROOT
from tests.unit.top.snapshots import session, snapshot, statement
from tests.unit.top.test_terminal import lines_of

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\u200b\r\nforged 世界"
THREE = snapshot(sessions=(session(1), session(2, state="idle", transaction_seconds=None), session(3)))


def after(display: Display, typed: list[str], found: Any = THREE) -> Display:
    for key in typed:
        display = press(display, key, rows_of(display, found), 10)
    return display


def pids(display: Display, found: Any = THREE) -> list[int]:
    return [row.pid for row in rows_of(display, found)]


def drawn(
    display: Display, found: Any = THREE, width: int = 80, height: int = 24, **options: Any
) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"), errors="strict")
    console = Console(file=stream, width=width, height=height, force_terminal=True, highlight=False)
    console.print(Screen(Painter(console).frame(found, display)), end="")
    stream.flush()
    return lines_of(stream.buffer.getvalue())  # type: ignore[attr-defined]


def test_sessions_are_ordered_by_their_transactions_until_a_column_is_chosen() -> None:
    old = snapshot(
        sessions=(
            session(1, state="idle", transaction_seconds=None),
            session(2),
            session(3, transaction_seconds=9.0),
        )
    )
    display = Display(1.0)
    assert pids(display, old) == [3, 2, 1]
    assert pids(after(display, ["s"], old), old) == [3, 2, 1]
    assert pids(after(display, ["s", "r"], old), old) == [1, 2, 3]
    assert pids(after(display, ["i"], old), old) == [3, 2]
    named = snapshot(sessions=tuple(session(n, login=name) for n, name in enumerate("bca")))
    assert pids(after(display, ["s", "s"], named), named) == [2, 0, 1]


def test_the_selection_stays_with_its_row_when_the_order_changes() -> None:
    display = after(Display(1.0), ["down"])
    assert display.selected == 3
    assert display.position == 1
    assert after(display, ["up"]).selected == 1
    assert after(display, ["end"]).selected == 2
    # The session has ended: the row in its place is selected.
    assert after(after(display, ["enter"]), ["escape"], snapshot()).shows_details is False
    moved = snapshot(sessions=(session(3, transaction_seconds=99.0), session(1)))
    assert after(display, ["down"], moved).selected == 1


def test_other_keys() -> None:
    display = Display(1.0)
    assert after(display, ["3"]).view is STATEMENTS
    assert after(display, ["tab", "tab"]).view is STATEMENTS
    assert after(display, ["5", "tab"]).view is SESSIONS
    assert after(display, [" "]).is_paused
    assert after(display, ["+", "+"]).interval == 5.0
    assert after(display, ["-", "-"]).interval == 0.5
    assert after(display, ["?", "2"]).view is SESSIONS
    assert after(display, ["9", "x", "\x1b[15~"]) == display
    assert after(display, ["enter"], snapshot()).shows_details is False
    assert after(display, ["q"]).has_quit


def test_no_byte_is_an_error() -> None:
    for number in range(256):
        for display in (Display(1.0), after(Display(1.0), ["enter"])):
            after(display, keys(bytes([number])))


def test_bytes_become_keys() -> None:
    assert keys(b"q\x1b[A\x1bOB\x1b[6~\n\x1b[15~\x1b") == [
        "q",
        "up",
        "down",
        "page down",
        "enter",
        "\x1b[15~",
        "escape",
    ]
    assert keys("ä".encode()) == ["Ã", "¤"]


def test_a_frame_fills_the_terminal_and_shows_foreign_text_escaped() -> None:
    replicas = (
        Replica(
            name=HOSTILE, address=HOSTILE, state=HOSTILE, is_synchronous=True, lag_bytes=1, lag_seconds=None
        ),
    )
    hostile = {"login": HOSTILE, "application": HOSTILE, "client": HOSTILE, "state": HOSTILE, "wait": HOSTILE,
               "wait_type": HOSTILE, "lock": HOSTILE, "statement": HOSTILE * 99}  # fmt: skip
    found = snapshot(
        sessions=tuple(session(pid, blocked_by=(1,) if pid > 1 else (), **hostile) for pid in range(1, 50)),
        statements=(statement(HOSTILE, login=HOSTILE),),
        replicas=replicas,
        expected_replicas=2,
    )
    for view, (width, height) in product(VIEWS, ((80, 24), (132, 40), (30, 8))):
        for display in (
            Display(1.0, view),
            replace(Display(1.0, view), shows_details=True),
            Display(1.0, shows_help=True),
        ):
            with in_case(display, width, height):
                # As ASCII, every character is one column wide.
                lines = drawn(display, found, width, height, encoding="ascii")
                assert len(lines) == height
                assert {len(line) for line in lines} == {width}
                shown = "".join(drawn(display, found, width, height))
                assert not set(shown) & set("\x1b\x07\u202e\u200b\r")


def test_process_ids_of_a_deep_lock_queue_are_shown_in_full() -> None:
    queue = tuple(
        session(pid, blocked_by=(pid - 1,) if pid > 4_194_290 else ()) for pid in range(4_194_290, 4_194_302)
    )
    found = snapshot(sessions=queue)
    for view, width in product((SESSIONS, LOCKS), (30, 40, 80, 132)):
        with in_case(view.name, width):
            shown = "\n".join(drawn(Display(1.0, view), found, width))
            assert sorted(map(int, re.findall(r"^ *(\d{4,})\b", shown, re.MULTILINE))) == [
                each.pid for each in queue
            ]


def test_numbers_fit_their_columns() -> None:
    for width, value, short in (
        (8, 99_999.9, "99,999.9"),
        (8, 123_456.7, "123,457"),
        (8, 1_234_567.8, "1,235k"),
        (8, 1_234_567_890.1, "1,235M"),
        (5, 123_456.7, "123k"),
        (5, 1e20, "1e+20"),
    ):
        with in_case(width, value):
            column = Column("X", lambda row: f"{row:,.1f}", width, lambda row: row, True)
            assert column.fitted(value) == short


def test_every_number_of_every_view_fits_its_column() -> None:
    for value in (0.0, 99.99, 1234.5, 99_999.9, 1_234_567.8, 98_765_432_109.8):
        # Three years.
        seconds = min(value, 1e8)
        rates = {"load": value, "calls_per_second": value, "mean_ms": value, "rows_per_second": value}
        ages = {"state_seconds": seconds, "transaction_seconds": seconds, "lock_seconds": seconds}
        replica = Replica(
            name="r",
            address="a",
            state="s",
            is_synchronous=True,
            lag_bytes=int(value),
            lag_seconds=seconds,
        )
        reads = Reads(job="a", entity="b", count=value, near=100.0, redis=100.0, database=100.0)
        found = snapshot(
            sessions=(session(1, **ages), session(4_194_304, blocked_by=(1,), **ages)),
            statements=(statement(**rates, buffer_hit_rate=100.0),),
            replicas=(replica,),
            uptime_seconds=seconds,
        )
        found = structs.replace(found, cache=Cache(source="a", entities=(reads,)))
        for view in VIEWS:
            for row, column in product(view.rows(found), view.columns):
                with in_case(value, view.name, column.title):
                    assert not column.is_number or len(column.fitted(row)) <= (column.width or 0)


def test_a_cut_line_of_the_header_is_marked() -> None:
    assert drawn(Display(1.0), width=40)[3] == "Redis     primary  - commands/s  hits ->"
    assert drawn(Display(1.0), width=80)[3].rstrip().endswith("3 MB")


def test_without_replicas_and_access_service_the_frame_says_so() -> None:
    found = structs.replace(snapshot(), access=None)
    lines = drawn(Display(1.0), found)
    assert lines[1].startswith("Postgres  primary  1,234 commits/s  buffers 99.5%")
    assert "no access service" in lines[4]


def test_a_missing_replica_is_shown_by_name() -> None:
    rows = servers(snapshot(expected_replicas=2, missing=("postgres-2", "postgres-3")))
    assert [row[:3] for row in rows[1:3]] == [
        ("  postgres-2", "replica", "down"),
        ("  postgres-3", "replica", "down"),
    ]


def test_a_missing_replica_is_shown() -> None:
    found = snapshot(expected_replicas=2)
    assert "0 of 2 replicas" in drawn(Display(1.0), found)[1]
    assert "2 missing" in "".join(drawn(Display(1.0, SERVERS), found))


def test_details_of_a_session_that_has_ended_name_no_other_session() -> None:
    display = after(Display(1.0), ["down", "enter"])
    assert "process 3" in "\n".join(drawn(display))
    shown = "\n".join(drawn(display, snapshot(sessions=(session(1), session(4)))))
    assert "the selected row is gone" in shown
    assert "pg_terminate_backend" not in shown


def test_details_name_the_commands_that_end_a_session() -> None:
    found = snapshot(sessions=(session(1), session(2, blocked_by=(1,), lock="users", lock_seconds=3.0)))
    shown = "\n".join(drawn(replace(Display(1.0, LOCKS), shows_details=True, selected=2), found))
    assert "waits 3.0s for users, held by 1" in shown
    assert "groundwork psql --stack dev -c 'SELECT pg_terminate_backend(2)'" in shown
    on_aws = structs.replace(found, target="aws")
    shown = "\n".join(drawn(replace(Display(1.0, LOCKS), shows_details=True, selected=2), on_aws, 120))
    assert "`psql -c 'SELECT pg_terminate_backend(2)'` as groundwork_admin from inside the VPC" in shown
    assert "groundwork psql" not in shown


def test_details_that_do_not_fit_can_be_scrolled_to_their_end() -> None:
    long = " ".join(f"column_{number}" for number in range(400))
    found = snapshot(sessions=(session(1, statement=f"SELECT {long}, the_end"),))
    painter = Painter(Console(width=80, height=24, force_terminal=True))
    display = after(Display(1.0), ["enter"], found)

    def pressed(*typed: str) -> str:
        nonlocal display
        for key in typed:
            hidden = painter.hidden_lines(found, display)
            display = press(display, key, rows_of(display, found), 10, hidden)
        return "\n".join(drawn(display, found))

    top = pressed()
    # The commands are always on the first screen.
    assert "pg_terminate_backend(1)" in top
    assert "lines below" in top
    assert "the_end" not in top
    below = pressed("page down", "page down", "page down", "page down", "page down", "page down")
    assert "the_end" in below
    assert "(0 lines below)" in below
    # Each key takes effect, also after more keys than lines.
    assert "(1 lines below)" in pressed("up")
    assert "(0 lines below)" in pressed("end")
    assert pressed("home") == top
    assert display.selected == 1
    pressed("end", "escape")
    assert pressed("enter") == top
    # The statement has become shorter.
    pressed("end")
    assert "process 1" in "\n".join(drawn(display, THREE))


def test_the_text_of_once_has_every_view() -> None:
    lines = text(snapshot(sessions=(session(1),)), 120)
    assert {view.name for view in VIEWS} <= set(lines)
    assert not any("\x1b" in line for line in lines)


def test_the_documents_names_are_camel_case_and_its_numbers_rounded() -> None:
    reads = Reads(job="a", entity="user", count=3.0, near=100 / 3, redis=None, database=0.0)
    found = snapshot(sessions=(session(1),), commits_per_second=1 / 3)
    shown = document(structs.replace(found, cache=structs.replace(found.cache, all=reads)))
    assert shown["postgres"]["commitsPerSecond"] == 0.3333
    assert shown["postgres"]["sessions"][0]["blockedBy"] == []
    assert shown["cache"]["all"]["near"] == 33.3333
    assert shown["intervalSeconds"] == 1.0
    assert CACHE.rows(found) == ()


@promise("every field of `top --once --json` is documented")
def test_every_field_is_documented() -> None:
    page = (ROOT / "docs" / "top.md").read_text()
    parts = [each for each in vars(snapshots_module).values() if hasattr(each, "__struct_encode_fields__")]
    names = {name for part in parts for name in part.__struct_encode_fields__}
    assert len(names) > 60
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
