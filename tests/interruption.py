"""Wait on Ctrl-C until every worker has removed what it created.

A plugin of pytest-xdist, which `python -m tests` loads. Without it xdist kills its workers after ten seconds, and
execnet interrupts a worker that still runs after five. Removing a stack takes longer.
"""

from __future__ import annotations

import os

from execnet.gateway_base import WorkerGateway
from xdist.workermanage import NodeManager

TAKING_DOWN_SECONDS = 180.0


def pytest_configure() -> None:
    # The first is for the process that distributes the tests, the second for the workers. Neither has a setting;
    # tests/unit/lanes interrupts a run to check that both still have an effect.
    NodeManager.EXIT_TIMEOUT = TAKING_DOWN_SECONDS
    WorkerGateway._terminate_execution = _end_patiently


def _end_patiently(gateway: WorkerGateway) -> None:
    """Like execnet's own function, without the interrupt, and with a longer limit than its fifteen seconds."""
    gateway._execpool.trigger_shutdown()
    if not gateway._execpool.waitall(TAKING_DOWN_SECONDS):
        os._exit(1)
