"""The examples in the documentation of the data access run unchanged."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path

from tests.conftest import cloned_database
from tests.containers import Server
from tests.integration.db.forked import run_scripts
from tests.promises import promise
from tests.unit.documentation.pages import python_examples

PAGES = ("docs/data-access.md", "docs/tokens.md")
EXAMPLES = [example for page in PAGES for example in python_examples(page)]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@promise("every example of the documentation runs")
def test_every_example_runs(
    postgres_server: Server, migrated_template: str, redis_server: Server, namespace: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        databases = [
            stack.enter_context(cloned_database(postgres_server, migrated_template)) for _ in EXAMPLES
        ]
        environments = [
            {
                "PATH": os.environ["PATH"],
                "DATABASE_URL": database.url("app"),
                "GROUNDWORK_TOKEN_KEYS": f"k1:{secrets.token_urlsafe(32)}",
                "REDIS_URL": redis_server.redis_url("app"),
                "GROUNDWORK_CACHE_NAMESPACE": f"{namespace}{number}",
            }
            for number, database in enumerate(databases)
        ]
        for done in run_scripts(list(zip(EXAMPLES, environments, strict=True)), tmp_path):
            # On a busy machine Redis may miss its time limit. The data access logs that and reads Postgres.
            complaints = [
                line
                for line in done.stderr.splitlines()
                if not line.startswith("Redis failed, so the breaker is open: ")
            ]
            assert (done.returncode, complaints) == (0, []), done.args
