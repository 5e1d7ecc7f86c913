"""Something that happens once and may be waited for, by tasks or by threads."""

from __future__ import annotations

import asyncio
import threading


class AsyncCompletion:
    """Waited for by tasks of one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Whether it happened within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class Completion:
    """Waited for by threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Whether it happened within so many seconds."""
        return self._event.wait(seconds)
