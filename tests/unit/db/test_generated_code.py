"""The sync packages are generated from the async ones, and the generator converts correctly."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.promises import promise

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "generate_sync.py"


@pytest.fixture(scope="module")
def to_sync() -> Any:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("generate_sync").to_sync
    finally:
        sys.path.pop(0)


@promise("the sync modules are generated from the async ones and never stale")
def test_the_sync_code_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f(): return await g()", "def f(): return g()"),
        ("async with AsyncPool() as p:\n    pass", "with Pool() as p:\n    pass"),
        ("async for x in y: pass", "for x in y: pass"),
        ("def __aenter__(self): pass", "def __enter__(self): pass"),
        ("x: Callable[[], Awaitable[list[int]]]", "x: Callable[[], list[int]]"),
        ("from asyncio import sleep", "from time import sleep"),
        ("import redis.asyncio", "import redis"),
        ("await async_uninterrupted(f, x)", "uninterrupted(f, x)"),
        ("await waiting.wait_async(gen)", "waiting.wait(gen)"),
        ("# await this: AsyncPool\nx = 'async await'", "# await this: AsyncPool\nx = 'async await'"),
    ],
)
def test_tokens_become_sync_and_text_is_unchanged(to_sync: Any, source: str, expected: str) -> None:
    assert to_sync(source + "\n") == expected + "\n"


@pytest.mark.parametrize("package", ["cache", "db"])
def test_no_async_token_is_left(package: str) -> None:
    for path in (ROOT / package / "_sync").glob("*.py"):
        code = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
        assert "await " not in code.replace("never await", ""), path
        assert "asyncio" not in code, path
