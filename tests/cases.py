"""Names the case of a table that failed, in tests that check a whole table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_case(*values: object) -> Iterator[None]:
    """Add the values that make a case to the error of a failed assertion."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {', '.join(map(repr, values))}")
        raise
