"""Print to the terminal. All commands print with these functions, so that strangers cannot control the terminal.

Text is escaped where it is printed (at the sink), not where it is read. groundwork's own text contains no control
characters except newlines and tabs, so any other one is foreign. A new command is therefore safe without further work.
There are two layers:

- `protect_streams` replaces stdout and stderr. Everything written to them is escaped, except newlines and tabs. This
  includes tracebacks, warnings, log records and click's messages.
- `print_line` prints exactly one line. It escapes newlines, because a foreign value could forge a line with one.

groundwork's own control sequences bypass these streams: a label's colour, the line that `redraw` updates, and the
display of ops.toolchain.progress. These functions escape foreign text themselves. `relay` is the only function that
keeps the colours of another program's output, and only those that cannot hide text.

JSON output needs no other rule: json.dumps escapes everything that is not ASCII, and the escapes used here have JSON's
form. The output of `psql` and `redis-cli` is not escaped, because they replace the process.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import IO, Any, TextIO

from ops.printable import escaped

# The errors of an output that cannot be written: its disk is full; its pipe is closed, or its terminal is gone.
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_READER = frozenset({errno.EPIPE, errno.EIO})
# Bold, underlined, and foreground colours. Not `conceal` or backgrounds, which hide text.
_COLOURS = re.compile(r"(\x1b\[(?:0|1|4|22|24|39|3[1-7]|9[0-7]|38;5;\d{1,3})?m)")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]{0,20})?\Z")


class _SafeStream:
    """A text stream that escapes what is written. It has no `buffer`, which would bypass the escaping."""

    def __init__(self, unescaped: TextIO) -> None:
        self.unescaped = unescaped

    def write(self, text: str | bytes) -> int:
        """Write text, escaped. click writes completions as bytes."""
        shown = text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
        self.unescaped.write(escaped(shown, "\n\t"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "detach"):
            raise AttributeError(f"a protected stream has no {name}; write text to it")
        return getattr(self.unescaped, name)


def protect_streams() -> None:
    """Escape everything that is printed from now on. Standard streams that are closed become /dev/null. Idempotent."""
    _open_missing_streams()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _SafeStream):
            continue
        if hasattr(stream, "reconfigure"):
            # A character that the encoding of the terminal lacks must not fail a command.
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _SafeStream(stream))


def _open_missing_streams() -> None:
    """Open /dev/null for the standard streams that are None, which they are after `<&-` or `>&-`.

    The file descriptors are opened too. Otherwise a socket or a file would get one of them, and child processes would
    write into it.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        # The lowest free one. It is another one if something has taken the stream's own since the start.
        if opened == descriptor:
            os.set_inheritable(descriptor, True)
        setattr(sys, name, os.fdopen(opened, mode))


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream that executes control sequences. The caller escapes all foreign text itself."""
    return stream.unescaped if isinstance(stream, _SafeStream) else stream


def print_line(text: object = "", *, label: str = "", colour: str | None = None, err: bool = False) -> None:
    """Print one line to stdout or stderr. `label` is groundwork's own text before it, coloured on a terminal."""
    stream = unescaped(sys.stderr if err else sys.stdout)
    if colour is not None and stream.isatty():
        import click

        label = click.style(label, fg=colour)
    stream.write(f"{label}{escaped(str(text))}\n")
    stream.flush()


def print_lines(lines: Iterable[object], *, err: bool = False) -> None:
    """Print each item as one line."""
    for line in lines:
        print_line(line, err=err)


def print_message(text: str) -> None:
    """Print `groundwork: ` and a message to stderr. Further lines are indented, so that no message can forge one."""
    first, *others = text.split("\n")
    print_lines([f"groundwork: {first}", *(f"    {line}" for line in others)], err=True)


def print_json(document: object) -> None:
    """Print a JSON document. Values of other types are printed as text."""
    import json

    stream = unescaped(sys.stdout)
    stream.write(f"{json.dumps(document, indent=2, default=str)}\n")
    stream.flush()


def print_exact(line: str) -> None:
    """Print a line that a shell or another program evaluates. Raise OpsError if it would have to be escaped."""
    from ops.errors import OpsError

    if escaped(line) != line:
        name = escaped(line.partition("=")[0])
        raise OpsError(f"cannot print {name}: its value contains a control character or an invisible one")
    print_line(line)


def redraw(line: str) -> None:
    """Replace the last line of the terminal on stderr. An empty line erases it."""
    stream = unescaped(sys.stderr)
    stream.write(f"\r{escaped(line)}\x1b[K")
    stream.flush()


def relay(source: IO[bytes], target: TextIO, *, until: str | None = None) -> None:
    """Print another program's output as it arrives, up to but without the text `until`. Keep its colours."""
    stream = unescaped(target)
    # Invalid bytes become surrogates, which are escaped.
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    held = ""

    def show(text: str) -> None:
        parts = _COLOURS.split(text)
        stream.write("".join(part if n % 2 else escaped(part, "\n\t") for n, part in enumerate(parts)))
        stream.flush()

    while chunk := os.read(source.fileno(), 65536):
        held += decode(chunk)
        if until is not None and until in held:
            continue
        ready = len(held) - _begun(held, until)
        show(held[:ready])
        held = held[ready:]
    held += decode(b"", True)
    show(held if until is None else held.partition(until)[0])


def relay_to_end(source: IO[bytes], target: TextIO, until: str | None) -> None:
    """Relay and close `source`. If `target` fails, read the rest, so that no write kills the other program."""
    with source:
        try:
            relay(source, target, until=until)
        except OSError:
            # ops.cli reports it when it flushes the stream.
            while source.read(65536):
                pass


def _begun(text: str, until: str | None) -> int:
    """Return how many characters at the text's end may be the beginning of `until` or of an escape sequence."""
    if found := _UNFINISHED.search(text):
        return len(text) - found.start()
    if until is None:
        return 0
    return next((n for n in range(len(until) - 1, 0, -1) if text.endswith(until[:n])), 0)


def relay_lines(source: IO[bytes], show: Callable[[str], None] = print_line) -> None:
    """Print another program's lines as they arrive."""
    for line in source:
        show(line.removesuffix(b"\n").decode("utf-8", "surrogateescape"))
