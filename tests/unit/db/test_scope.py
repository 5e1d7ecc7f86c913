"""The value of a block does not outlive the block, even if a generator that yields inside it ends elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager
from itertools import count, permutations

from db.deadline import chosen_deadline, deadline_of_block
from db.reading import current_reading, reading_block
from tests.cases import in_case

Block = Callable[[], AbstractContextManager[None]]
Read = Callable[[], object]
# Each deadline is earlier than those before it.
_SECONDS = count(86_000, -1000)
# How a block is entered, and how its value is read.
BLOCKS: dict[str, tuple[Block, Read]] = {
    "deadline": (lambda: deadline_of_block(next(_SECONDS)), chosen_deadline),
    "reading": (lambda: reading_block(5.0, None), current_reading),
}


async def _leave_early(block: Block, read: Read) -> None:
    """Leave an async generator early. asyncio closes it in a task of its own."""
    is_closed = asyncio.Event()
    outer = read()

    async def rows() -> AsyncIterator[int]:
        try:
            with block(), block():
                yield 1
        finally:
            assert read() is outer
            is_closed.set()

    async def started_inside() -> object:
        await is_closed.wait()
        return read()

    async for _ in rows():
        inner = read()
        task = asyncio.create_task(started_inside())
        break
    await is_closed.wait()
    assert read() is outer is not inner
    # A task that was started in the block keeps its value.
    assert await task is inner


def test_a_generator_that_was_left_early_leaves_no_value_to_its_task() -> None:
    async def body(block: Block, read: Read) -> None:
        await _leave_early(block, read)
        with block():
            await _leave_early(block, read)
        assert read() is None

    for name, (block, read) in BLOCKS.items():
        with in_case(name):
            asyncio.run(body(block, read))


def test_blocks_may_end_in_any_order() -> None:
    def opened(block: Block, read: Read) -> Generator[object, None, None]:
        with block():
            yield read()

    for name, (block, read) in BLOCKS.items():
        for order in permutations(range(3)):
            with in_case(f"{name} {order}"):
                generators = {index: opened(block, read) for index in range(3)}
                values = {index: next(generator) for index, generator in generators.items()}
                for index in order:
                    assert read() is values[max(generators)]
                    generators.pop(index).close()
                assert read() is None
