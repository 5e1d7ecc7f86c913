"""Iterate over all pages of a listing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from db.models import Page

T = TypeVar("T")


async def items(listing: Callable[..., Awaitable[Page[T]]], page_size: int) -> AsyncIterator[T]:
    """Yield the items of all pages that `listing(limit=, after=)` returns. Keeps one page in memory."""
    after: str | None = None
    while True:
        page = await listing(limit=page_size, after=after)
        for item in page.items:
            yield item
        if page.next is None:
            return
        after = page.next
