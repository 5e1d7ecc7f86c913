"""The live stack of the tests, created by a real `up` and removed at the end. The dev stack is not changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import testinfra
from click.testing import CliRunner

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


def groundwork_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a groundwork command that may fail."""
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def groundwork(*arguments: str) -> str:
    done = groundwork_process(*arguments)
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


def groundwork_here(*arguments: str) -> str:
    """Run a groundwork command in this process, which is cheaper than another one, and return its stdout."""
    from ops.cli import cli

    done = CliRunner().invoke(cli, arguments)
    assert done.exception is None, f"groundwork {' '.join(arguments)}:\n{done.output}\n{done.exception!r}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutCopy]:
    """Yield a copy of the checkout. Its stack and data are removed at the end."""
    with CheckoutCopy.temporary(tmp_path_factory.mktemp("checkout")) as copy:
        yield copy
