"""What happens on Ctrl-C where two processes run the tests: each takes down what it has made, and is waited for.

A plugin of pytest-xdist (`python -m tests` loads it). By itself xdist kills its processes after ten seconds, and
execnet, under it, interrupts a process that still runs after five, while it takes down: a stack takes longer to go.
"""

from __future__ import annotations

import os

from execnet.gateway_base import WorkerGateway
from xdist.workermanage import NodeManager

TAKING_DOWN_SECONDS = 180.0


def pytest_configure() -> None:
    # The first is for the process that shares out, the second for those that run the tests. Neither has a setting;
    # tests/unit/lanes interrupts a run to see that both still have a say.
    NodeManager.EXIT_TIMEOUT = TAKING_DOWN_SECONDS
    WorkerGateway._terminate_execution = _end_patiently


def _end_patiently(gateway: WorkerGateway) -> None:
    """As execnet's own, without the interrupt, and with more than its fifteen seconds."""
    gateway._execpool.trigger_shutdown()
    if not gateway._execpool.waitall(TAKING_DOWN_SECONDS):
        os._exit(1)
