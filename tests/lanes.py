"""How tests are shared out where two processes run them: a folder stays together, and the live stack with its tests.

A plugin of pytest-xdist (`python -m tests` loads it). Tests of one folder share servers; two processes would each
make them, and of the stack named `test` there can be only one.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

LIVE_STACK = (
    "tests/infra/live/",
    "tests/infra/rotation/",
    "tests/infra/test_drift.py",
    "tests/infra/test_egress.py",
    "tests/infra/test_live_stack.py",
)


def lane_of(nodeid: str) -> str:
    """What a test must not be parted from."""
    path = nodeid.partition("::")[0]
    if path.startswith(LIVE_STACK):
        return "the live stack"
    # The other files there have a checkout, and so a stack, of their own; and faults share little.
    return path if path.startswith(("tests/infra/", "tests/faults/")) else path.rpartition("/")[0]


class Lanes(LoadScopeScheduling):
    """Gives whole lanes to whichever process is free, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    return Lanes(config, log)
