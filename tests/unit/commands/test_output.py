"""Printing: what the protected streams escape, what passes, and other programs' output in pieces."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest

from ops import output
from ops.errors import Exit, OpsError
from ops.gharchive.archive import Tally
from ops.gharchive.progress import ImportProgress
from ops.printable import escaped, printable
from tests.cases import in_case


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Stdout and stderr are one protected terminal. Not a fixture, because pytest replaces both before the test."""
    both = Terminal()
    with redirect_stdout(both), redirect_stderr(both):
        output.protect_streams()
        yield both


def test_only_characters_that_are_not_shown_are_escaped() -> None:
    cases: list[tuple[str, str]] = [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b\x7f\x9b\r", "\\u001b\\u007f\\u009b\\r"),
        ("\u202e\u200b\u2028\ufeff\xad", "\\u202e\\u200b\\u2028\\ufeff\\u00ad"),
        # Invisible, but neither control nor format characters: Hangul fillers and variation selectors.
        ("\u3164\u115f\ufe0f\U000e0101", "\\u3164\\u115f\\ufe0f\\udb40\\udd01"),
        ("\U000e0041\udcff", "\\udb40\\udc41\\udcff"),
        ("żółw 😀 שלום 日本", "żółw 😀 שלום 日本"),
    ]
    for text, shown in cases:
        with in_case(text, shown):
            with terminal() as seen:
                print(text, end="")
            assert seen.getvalue() == shown


def test_a_line_stays_one_line() -> None:
    with terminal() as seen:
        output.print_line("a\nb\u2028c\x85d")
        output.print_line("e", label="ok\t", colour="green")
    assert seen.getvalue() == "a\\nb\\u2028c\\u0085d\n\x1b[32mok\t\x1b[0me\n"


def test_further_lines_of_a_message_are_indented() -> None:
    with terminal() as seen:
        output.print_message("it failed: x\ngroundwork: forged")
    assert seen.getvalue() == "groundwork: it failed: x\n    groundwork: forged\n"


def test_a_value_that_another_program_evaluates_is_refused_instead_of_changed() -> None:
    with terminal() as seen:
        output.print_exact("A='b c'")
    with terminal(), pytest.raises(OpsError, match="cannot print A: its value contains a control character"):
        output.print_exact("A='b\nc'")
    assert seen.getvalue() == "A='b c'\n"


def test_a_file_name_in_the_progress_of_an_import_is_escaped() -> None:
    with terminal() as seen:
        progress = ImportProgress("a\x1b[2J", lambda: None)
        progress.show(Tally())
        progress.clear()
    assert "\x1b[2J" not in seen.getvalue()
    assert seen.getvalue().startswith("\ra\\u001b[2J: ")
    assert seen.getvalue().endswith("\r\x1b[K")


def test_protecting_twice_escapes_once() -> None:
    with terminal() as seen:
        output.protect_streams()
        print("\\", "\x1b", end="")
    assert seen.getvalue() == "\\ \\u001b"


def test_a_traceback_is_escaped() -> None:
    code = 'from ops.output import protect_streams\nprotect_streams()\nraise ValueError("a\\x1b[2J\\u202e")'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"ValueError: a\\u001b[2J\\u202e" in done.stderr


def test_a_command_with_closed_streams_ends_as_usual() -> None:
    cases: list[tuple[str, Exit, str]] = [
        ("import gharchive - --dry-run <&-", Exit.ERROR, "groundwork: standard input is empty"),
        # The error is not replaced by one of the output.
        ("new entity gizmo >&-", Exit.USAGE, "entity 'gizmo' has no fields"),
        ("new entity gizmo 2>&-", Exit.USAGE, ""),
        ("--version <&- >&- 2>&-", Exit.FINE, ""),
    ]
    for command, code, err in cases:
        with in_case(command, code, err):
            done = subprocess.run(
                f'"{sys.executable}" -m ops.cli {command}',
                shell=True,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            assert err in done.stderr
            assert done.stderr.count("\n") <= 1


def test_a_child_of_a_process_with_closed_streams_has_all_three() -> None:
    code = "import subprocess, sys; from ops.output import protect_streams; protect_streams()"
    code += """; assert not sys.stdin.isatty(); subprocess.run("true <&0 >&1 2>&2", shell=True, check=True)"""
    done = subprocess.run(["sh", "-c", f"exec \"$0\" -c '{code}' <&- >&- 2>&-", sys.executable], check=False)
    assert done.returncode == 0


def test_a_character_that_the_encoding_lacks_is_escaped() -> None:
    code = 'from ops.output import print_line, protect_streams\nprotect_streams()\nprint_line("ż")'
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == b"\\u017c\n"


def test_another_programs_colours_pass_and_nothing_else() -> None:
    cases: list[tuple[list[bytes], str]] = [
        ([b"a\x1b[1mb\x1b[0m\x1b[38;5;13mc"], "a\x1b[1mb\x1b[0m\x1b[38;5;13mc"),
        # Hidden text, a background, a cleared screen.
        ([b"\x1b[8m", b"\x1b[30;40m", b"\x1b[2J"], "\\u001b[8m\\u001b[30;40m\\u001b[2J"),
        # A colour and a character in pieces.
        ([b"a\x1b", b"[3", b"1mb\xc5", b"\xbc"], "a\x1b[31mbż"),
        ([b"a\x1b["], "a\\u001b["),
        ([b"\xff\n\r"], "\\udcff\n\\r"),
    ]
    for chunks, shown in cases:
        with in_case(chunks, shown):
            reading, writing = os.pipe()
            with os.fdopen(reading, "rb") as source, terminal() as seen:
                reader = threading.Thread(target=output.relay, args=(source, sys.stdout))
                reader.start()
                for chunk in chunks:
                    os.write(writing, chunk)
                    # Wait, so that the reader gets this piece alone.
                    threading.Event().wait(0.02)
                os.close(writing)
                reader.join(10)
            assert seen.getvalue() == shown


def test_a_value_in_a_line_loses_its_line_breaks() -> None:
    assert printable("a\n b\x1b") == "a b\\u001b"
    assert escaped("a\nb") == "a\\nb"
