"""Which stack is looked at: --stack NAME of this checkout, --outputs FILE of any, else the tests' own, in Docker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.spec.world import World
from tests.infra.conftest import STACK
from tests.infra.live.reached import Reached


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("groundwork")
    group.addoption("--stack", help="a stack that is up, which is looked at and not changed")
    group.addoption("--outputs", help="what `pulumi stack output --json --show-secrets` wrote of one")


@pytest.fixture(scope="module")
def reached(request: pytest.FixtureRequest) -> Reached:
    """Asked anew for each module: another one may have rotated what it says."""
    from ops.pulumi_stack import PulumiStack

    # Where these tests are part of a whole run, this file is read too late for its options.
    stack, file = (request.config.getoption(name, default=None) for name in ("--stack", "--outputs"))
    if file:
        return Reached(json.loads(Path(file).read_text()))
    if not stack:
        request.getfixturevalue("live_stack")
    return Reached(PulumiStack(World.here(), stack or STACK).outputs())
