"""Drift: what somebody changed past the program is found by asking the target, and not by believing the state."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from infra.docker.engine import docker
from ops.errors import Exit
from tests.infra.checkout import ROOT
from tests.infra.conftest import STACK, LiveStack, groundwork


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
def without_an_exporter(live_stack: LiveStack) -> Iterator[None]:
    """Somebody has removed a container by hand; the next `up` brings it back."""
    docker("rm", "--force", live_stack.container("redis-exporter"))
    yield
    groundwork("up", "--stack", STACK)
    assert live_stack.inspect("redis-exporter")["State"]["Health"]["Status"] == "healthy"


def test_a_stack_as_the_program_says_has_none(live_stack: LiveStack) -> None:
    done = preview("--refresh")
    assert done.returncode == Exit.FINE, done.stdout + done.stderr


def test_a_container_that_somebody_removed_is_4_and_named(without_an_exporter: None) -> None:
    done = preview("--refresh")
    assert done.returncode == Exit.MISMATCH, done.stdout + done.stderr
    assert "redis-exporter" in done.stdout
    assert "is not as the program says" in done.stderr
    # The control: who believes the state sees nothing.
    assert preview().returncode == Exit.FINE
