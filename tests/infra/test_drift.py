"""Drift: changes made outside the program are detected by querying the target, not from the state."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.docker.engine import docker, psql
from infra.docker.health_check import health
from ops.errors import Exit
from tests.infra.checkout import ROOT
from tests.infra.conftest import STACK, LiveStack, groundwork
from tests.promises import promise


def preview(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "preview", "--stack", STACK, "--expect-no-changes", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture
def changed_by_hand(live_stack: LiveStack) -> Iterator[None]:
    """Remove a container, and change a login's settings as that login. The next `up` repairs both."""
    docker("rm", "--force", live_stack.container("redis-exporter"))
    postgres = live_stack.container("postgres")
    psql(postgres, "SET ROLE readonly_a; ALTER ROLE readonly_a IN DATABASE groundwork SET work_mem = '1MB'")
    yield
    groundwork("up", "--stack", STACK)
    assert health(live_stack.inspect("redis-exporter")) == "healthy"
    assert psql(postgres, "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0").strip() == "0"


@promise("drift of a stack is detected and named")
@promise("an `up` after rotations changes nothing")
def test_drift_reports_exactly_the_removed_container_and_the_changed_role(
    changed_by_hand: None,
) -> None:
    """The earlier rotations of tests/infra/rotation leave no drift either."""
    done = preview("--refresh")
    assert done.returncode == Exit.MISMATCH, done.stdout + done.stderr
    assert "differs from the program (see above)" in done.stderr
    line = re.compile(r" +(?:\+|~|-|\+-|-\+|\+\+|--) +\S+:\S+ (\S+) (?!refresh)")
    changed = {found[1] for each in done.stdout.splitlines() if (found := line.match(each))}
    assert {"redis-exporter", "roles"} <= changed, done.stdout
    assert {name for name in changed if not name.startswith("redis-exporter")} == {"roles"}, done.stdout
