"""An action that is completed although its task is cancelled again and again."""

from __future__ import annotations

import asyncio

import pytest

from cache.synchronization import async_completed, async_uninterrupted


async def _act(done: list[str], error: Exception | None = None) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    done.append("done")
    if error is not None:
        raise error


async def _cancelled(done: list[str], function: object) -> list[str]:
    """Cancel a call at each step of the event loop. Return what was done when it ended, and its error's text."""
    found: list[str] = []

    async def call() -> None:
        try:
            await function(_act, done)  # type: ignore[operator]
        except asyncio.CancelledError as error:
            found.extend((*done, *error.args))
            raise

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    while not task.done():
        task.cancel("the reason")
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return found


def test_a_cancelled_task_waits_for_the_end_of_the_action() -> None:
    assert asyncio.run(_cancelled([], async_completed)) == ["done", "the reason"]


def test_async_uninterrupted_does_not_wait() -> None:
    done: list[str] = []
    assert "done" not in asyncio.run(_cancelled(done, async_uninterrupted))
    assert done == ["done"]


def test_an_error_of_the_action_is_raised() -> None:
    with pytest.raises(KeyError):
        asyncio.run(async_completed(_act, [], KeyError()))
