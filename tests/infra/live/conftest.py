"""Choose the stack to check: --stack NAME of this checkout, --outputs FILE of any, else the tests' own stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.spec.checkout import Checkout
from tests.infra.conftest import STACK
from tests.infra.live.reached import Reached


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("groundwork")
    group.addoption("--stack", help="a running stack, which is checked and not changed")
    group.addoption("--outputs", help="a file with the output of `pulumi stack output --json --show-secrets`")


@pytest.fixture(scope="package")
def reached(request: pytest.FixtureRequest) -> Reached:
    """Read the outputs once for all tests of this folder. None of them rotates passwords."""
    from ops.stack.pulumi_stack import PulumiStack

    # In a run of all tests, pytest reads this file too late to register its options.
    stack, file = (request.config.getoption(name, default=None) for name in ("--stack", "--outputs"))
    if file:
        return Reached(json.loads(Path(file).read_text()))
    if not stack:
        request.getfixturevalue("live_stack")
    return Reached(PulumiStack(Checkout.here(), stack or STACK).outputs())
