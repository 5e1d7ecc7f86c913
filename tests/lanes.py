"""A plugin of pytest-xdist that decides which tests stay together in one worker, and which of these lanes go first.

Tests that share a server, a checkout or the live stack are one lane. `python -m tests` loads the plugin.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

LIVE_STACK = (
    "tests/infra/live/",
    "tests/infra/rotation/",
    "tests/infra/test_egress.py",
    "tests/infra/test_live_stack.py",
)
LIVE_LANE = "the live stack"
# The longest first: a worker that starts one of them late is the last to finish. All other lanes are short. Those that
# run Pulumi or pgBackRest keep a core busy, so that lanes that mostly wait are between them.
LONG_LANES = (
    LIVE_LANE,
    "tests/infra/test_lifecycle.py",
    "tests/infra/cluster",
    "tests/integration/cache",
    "tests/faults/test_backups.py",
    "tests/faults/redis_replicas",
    "tests/integration/db",
    "tests/integration/client",
    "tests/infra/aws",
    "tests/integration/backup",
    "tests/integration/cache_operations",
    "tests/infra/policy",
    "tests/faults/migrator/test_kill.py",
    "tests/integration/serve",
    "tests/integration/monitoring",
    "tests/integration/access_image",
    "tests/integration/migrator",
    "tests/integration/doctor",
)
# Their tests share servers or a stack for the whole folder.
_SHARED_FOLDERS = (
    "tests/infra/aws/",
    "tests/infra/cluster/",
    "tests/infra/policy/",
    "tests/integration/",
    "tests/faults/redis_replicas/",
)
# These run the AWS program. A worker spends several seconds of CPU on importing pulumi_aws for the first of them.
_AWS_PROGRAM = ("tests/unit/infra/aws/", "tests/unit/policy/test_aws_")
# They share the runs of the Docker program.
_DOCKER_PROGRAM = (
    "tests/unit/infra/test_cluster_program.py",
    "tests/unit/infra/test_monitored_replicas.py",
    "tests/unit/infra/test_program.py",
    "tests/unit/infra/test_redis_drain.py",
    "tests/unit/infra/test_redis_replicas.py",
    "tests/unit/infra/test_rotated_program.py",
)


def lane_of(nodeid: str) -> str:
    """Return the name of the lane that a test runs in."""
    path = nodeid.partition("::")[0]
    if path.startswith(LIVE_STACK):
        return LIVE_LANE
    if path.startswith(_AWS_PROGRAM):
        return "the AWS program"
    if path.startswith(_DOCKER_PROGRAM):
        return "the Docker program"
    # A worker creates what the other files share once, for all of its lanes.
    return path.rpartition("/")[0] if path.startswith(_SHARED_FOLDERS) else path


def order_of(lane: str) -> int:
    """Return the lane's position: the long ones in their order, then infra and faults, then the short ones."""
    if lane in LONG_LANES:
        return LONG_LANES.index(lane)
    kinds = ("tests/infra", "tests/faults", "tests/integration")
    return len(LONG_LANES) + next((n for n, kind in enumerate(kinds) if lane.startswith(kind)), len(kinds))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: order_of(lane_of(item.nodeid)))


class Lanes(LoadScopeScheduling):
    """Assigns whole lanes to free workers, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return lane_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    return Lanes(config, log)
