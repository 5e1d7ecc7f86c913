# Generated from db/_async/pages.py by scripts/generate_sync.py; edit that, not this.
"""Iterate over all pages of a listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from db.models import Page

T = TypeVar("T")


def items(listing: Callable[..., Page[T]], page_size: int) -> Iterator[T]:
    """Yield the items of all pages that `listing(limit=, after=)` returns. Keeps one page in memory."""
    after: str | None = None
    while True:
        page = listing(limit=page_size, after=after)
        for item in page.items:
            yield item
        if page.next is None:
            return
        after = page.next
