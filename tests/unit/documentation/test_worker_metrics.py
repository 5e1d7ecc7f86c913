"""The recipe of docs/monitoring.md for applications with several processes."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import cache.metrics  # noqa: F401
from db.metrics import POOLS
from tests.containers import wait_until
from tests.promises import promise
from tests.unit.documentation import pages


class Pool:
    """A pool of a child with this number of connections."""

    name = "recipe"

    def __init__(self, size: int) -> None:
        self._size = size

    def statistics(self) -> dict[str, int]:
        return {"pool_size": self._size}


@pytest.fixture
def ports() -> tuple[int, ...]:
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("0.0.0.0", 0))) for _ in range(2)]
        return tuple(each.getsockname()[1] for each in free)


@pytest.fixture
def worker(ports: tuple[int, ...]) -> Iterator[Callable[[int], int]]:
    """Return worker(size), which forks a worker with a pool of this size, and returns its process id."""
    recipe: dict[str, Any] = {}
    exec(pages.python_examples("docs/monitoring.md")[0], recipe)
    recipe["PORTS"] = ports
    children = []

    def fork(size: int) -> int:
        child = os.fork()
        if child == 0:
            POOLS.add(Pool(size))
            recipe["serve_metrics"]()
            signal.alarm(60)
            signal.pause()
            os._exit(0)
        children.append(child)
        return child

    yield fork
    for child in children:
        end(child)


def end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def scraped(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError):
        return ""


def sizes(ports: tuple[int, ...]) -> list[float]:
    """Return the sizes of the pools that a scrape of all ports finds."""
    prefix = 'groundwork_db_pool_size{pool="recipe"} '
    lines = [line for port in ports for line in scraped(port).splitlines()]
    return sorted(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))


@promise("each worker of an application is scraped, with the state of its pool and breaker")
def test_each_worker_has_a_port_and_its_replacement_takes_it(
    ports: tuple[int, ...], worker: Callable[[int], int]
) -> None:
    first, _ = worker(1), worker(2)
    wait_until(lambda: sizes(ports) == [1, 2], 20)
    for port in ports:
        assert "\ngroundwork_cache_breaker_open 0.0\n" in scraped(port)

    # As after SIGHUP, gunicorn starts new workers before it ends the old ones.
    worker(3)
    end(first)
    wait_until(lambda: sizes(ports) == [2, 3], 20)
