"""The plan of a run: what it contains, and that a seed reproduces it."""

from __future__ import annotations

from infra.spec.redis_replication import SENTINEL_NAMES
from ops.chaos.disk import FILL_MB, FLOOR_MB, fill_size
from ops.chaos.plan import FAULTS, FILL, SERVICES, SWITCHOVER, Topology, make_plan, targets_of
from ops.commands import chaos
from tests.cases import in_case
from tests.promises import promise

ALONE, REPLICATED = Topology(False, False), Topology(True, True)
_GB = 1024**3


@promise("a seed repeats the plan of a run")
def test_the_same_seed_gives_the_same_plan() -> None:
    first, second, other = (make_plan(seed, 600, FAULTS, REPLICATED, SERVICES) for seed in (7, 7, 8))
    assert first == second
    assert first != other


def test_faults_follow_each_other_and_end_in_time() -> None:
    for topology in (ALONE, REPLICATED):
        for total in (10, 60, 3600):
            with in_case(topology, total):
                for seed in range(50):
                    steps = make_plan(seed, total, FAULTS, topology, SERVICES)
                    ends = [0, *(step.at + step.seconds for step in steps)]
                    assert all(step.at > end for step, end in zip(steps, ends, strict=False)), seed
                    assert ends[-1] < total, seed


def test_every_fault_occurs_before_one_occurs_again() -> None:
    for seed in range(20):
        steps = make_plan(seed, 3600, FAULTS, REPLICATED, SERVICES)
        assert {step.fault for step in steps[: len(FAULTS)]} == set(FAULTS), seed


def test_a_plan_contains_only_chosen_and_possible_faults() -> None:
    for topology, faults, services, expected in (
        (ALONE, FAULTS, SERVICES, {"postgres primary", "redis primary", "access"}),
        (REPLICATED, FAULTS, ("redis",), {"redis primary", "redis replica", *SENTINEL_NAMES}),
        (REPLICATED, (FILL,), ("postgres",), {"postgres primary", "postgres replica"}),
        (REPLICATED, (SWITCHOVER,), SERVICES, {"postgres primary", "redis primary"}),
        (Topology(True, False), (SWITCHOVER,), SERVICES, {"postgres primary"}),
        (ALONE, (SWITCHOVER,), SERVICES, set()),
        (REPLICATED, (FILL,), ("access",), set()),
    ):  # fmt: skip
        steps = make_plan(1, 4 * 3600, faults, topology, services)
        assert {step.target for step in steps} == expected, (topology, faults, services)
        assert {step.fault for step in steps} <= set(faults)
    assert targets_of(SWITCHOVER, Topology(False, True), SERVICES) == ["redis primary"]


def test_the_command_offers_the_faults_and_services_of_the_plan() -> None:
    assert (chaos.FAULTS, chaos.SERVICES) == (FAULTS, SERVICES)


@promise("chaos leaves a tenth of the disk and at least 2 GB free")
def test_a_file_leaves_a_part_of_the_disk_free() -> None:
    for size, free, expected in (
        (100 * _GB, 50 * _GB, FILL_MB),
        (100 * _GB, 10 * _GB + 5 * 1024**2, 5),
        (100 * _GB, 10 * _GB, 0),
        (100 * _GB, 0, 0),
        (10 * _GB, 2 * _GB + 1024**2, 1),
        (10 * _GB, FLOOR_MB * 1024**2 - 1, 0),
    ):
        assert fill_size(size, free) == expected, (size, free)
