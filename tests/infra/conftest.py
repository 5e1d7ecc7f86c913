"""The live stack of the tests, created by a real `up` and removed at the end. The dev stack is not changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import testinfra

from infra import outputs
from infra.docker.engine import docker, inspect
from infra.spec.checkout import Checkout
from tests.infra.checkout import ROOT, CheckoutCopy

STACK = "test"


@dataclass(frozen=True)
class LiveStack:
    """A running stack: its outputs, and its containers by service."""

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


@pytest.fixture(scope="package")
def live_stack() -> Iterator[LiveStack]:
    """Yield the stack `test`. It is removed after the last test of this folder, not at the end of the run."""
    from ops.stack.pulumi_stack import PulumiStack

    down = ("down", "--stack", STACK, "--volumes", "--yes")
    # A killed run may have left a stack, perhaps in the middle of a rotation.
    groundwork(*down)
    groundwork("up", "--stack", STACK)
    try:
        yield LiveStack(PulumiStack(Checkout.here(), STACK).outputs())
    finally:
        groundwork(*down)
    name = f"name={Checkout.here().name(STACK, '')}"
    for kind in ("container", "volume", "network"):
        left = docker(kind, "ls", *(["--all"] if kind == "container" else []), "--quiet", "--filter", name)
        assert left == "", f"`groundwork down --volumes` left {kind}s behind"


@pytest.fixture(scope="module")
def role_urls(live_stack: LiveStack) -> dict[str, dict[str, str]]:
    """Return role -> output of `groundwork env --format json`. Per module, because another one may rotate passwords."""
    return {
        role: json.loads(groundwork("env", "--stack", STACK, "--role", role, "--format", "json"))
        for role in outputs.ROLES
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutCopy]:
    """Yield a copy of the checkout. Its stack and data are removed at the end."""
    with CheckoutCopy.temporary(tmp_path_factory.mktemp("checkout")) as copy:
        yield copy
