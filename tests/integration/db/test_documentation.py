"""The examples in the documentation of the data access run unchanged."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.containers import Server
from tests.promises import promise

ROOT = Path(__file__).parents[3]
PAGES = ("docs/data-access.md", "docs/tokens.md")
EXAMPLES = [
    example
    for page in PAGES
    for example in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@promise("every example of the documentation runs")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda code: code.partition("\n")[0])
def test_an_example_runs(example: str, database: Database, redis_server: Server, namespace: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database.url("app"),
        "GROUNDWORK_TOKEN_KEYS": f"k1:{secrets.token_urlsafe(32)}",
        "REDIS_URL": redis_server.redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # On a busy machine Redis may miss its time limit. The data access logs that and reads Postgres.
    complaints = [
        line
        for line in done.stderr.splitlines()
        if not line.startswith("Redis failed, so the breaker is open: ")
    ]
    assert (done.returncode, complaints) == (0, [])
