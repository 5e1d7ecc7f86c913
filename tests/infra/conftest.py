"""The live stack of the tests, made by a real `up` and removed at the end; the dev stack is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import testinfra

from infra import outputs
from infra.docker.engine import inspect
from infra.spec.world import World
from tests.infra.checkout import ROOT, Checkout

STACK = "test"


@dataclass(frozen=True)
class LiveStack:
    """A stack that is up: its outputs, and its containers by service."""

    outputs: dict[str, Any]

    def container(self, service: str) -> str:
        return str(self.outputs[outputs.CONTAINERS][service])

    def host(self, service: str) -> Any:
        return testinfra.get_host(f"docker://{self.container(service)}")

    def inspect(self, service: str) -> dict[str, Any]:
        return inspect("container", self.container(service))[0]


def groundwork(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"groundwork {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def live_stack() -> Iterator[LiveStack]:
    from ops.pulumi_stack import PulumiStack

    down = ("down", "--stack", STACK, "--volumes", "--yes")
    # What a run that was killed left, in the middle of a rotation perhaps, is not what is tested here.
    groundwork(*down)
    groundwork("up", "--stack", STACK)
    try:
        yield LiveStack(PulumiStack(World.here(), STACK).outputs())
    finally:
        groundwork(*down)


@pytest.fixture(scope="module")
def role_urls(live_stack: LiveStack) -> dict[str, dict[str, str]]:
    """role -> what `groundwork env --format json` prints for it; another module may rotate what it says."""
    return {
        role: json.loads(groundwork("env", "--stack", STACK, "--role", role, "--format", "json"))
        for role in outputs.ROLES
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy of the checkout whose stack is taken down with its data at the end."""
    folder: Path = tmp_path_factory.mktemp("world")
    copy = Checkout.copy_to(folder)
    copy.settings()
    try:
        yield copy
    finally:
        copy.settings()
        copy.run("down", "--volumes", "--yes")
