"""How `python -m tests` divides the tests: which stay together, start first, or run alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.__main__ import MEASURING, RUNS, WORKERS, environment, verdict
from tests.cases import in_case
from tests.lanes import LIVE_LANE, LIVE_STACK, LONG_LANES, lane_of, order_of

ROOT = Path(__file__).parents[3]


def _files(folder: str) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / folder).rglob("test_*.py"))]


def test_every_file_that_uses_the_live_stack_is_in_its_lane() -> None:
    users = [file for file in _files("tests/infra") if "live_stack:" in (ROOT / file).read_text()]
    assert users
    assert {lane_of(f"{file}::test_x") for file in users} == {LIVE_LANE}


def test_tests_that_share_servers_stay_together() -> None:
    cases: list[tuple[str, str, bool]] = [
        ("tests/integration/db/test_a.py::test_x[a::b]", "tests/integration/db/test_b.py::test_y", True),
        ("tests/integration/db/test_a.py::test_x", "tests/integration/cache/test_a.py::test_x", False),
        ("tests/unit/db/test_a.py::test_x", "tests/unit/db/test_b.py::test_x", False),
        ("tests/infra/test_lifecycle.py::test_x", "tests/infra/test_bad_settings.py::test_x", False),
        ("tests/infra/test_egress.py::test_x", "tests/infra/rotation/test_rotation.py::test_x", True),
        ("tests/unit/infra/test_program.py::test_x", "tests/unit/infra/test_redis_drain.py::test_x", True),
        ("tests/unit/infra/aws/test_a.py::test_x", "tests/unit/policy/test_aws_b.py::test_x", True),
    ]
    for one, other, together in cases:
        with in_case(one, other, together):
            assert (lane_of(one) == lane_of(other)) is together


def test_long_lanes_start_first_and_unit_tests_last() -> None:
    lanes = sorted({lane_of(f"{file}::test_x") for file in _files("tests")}, key=order_of)
    assert tuple(lanes[: len(LONG_LANES)]) == LONG_LANES
    assert lanes[-1].startswith("tests/unit/")


def test_every_named_file_exists() -> None:
    paths = [each.partition("::")[0] for each in (*MEASURING, *LIVE_STACK)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_each_test_is_in_exactly_one_of_the_two_runs() -> None:
    first, second = RUNS
    left_out = [option.partition("=")[2] for option in first if option.startswith("--deselect=")]
    assert first[0] == "tests"
    assert left_out == second[: len(MEASURING)] == MEASURING


def test_every_machine_gets_more_than_one_worker() -> None:
    assert 3 <= WORKERS <= 8


def test_workers_agree_on_the_order_of_a_set_and_write_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    command = [sys.executable, "-c", "import sys; print(hash('a'), sys.dont_write_bytecode)"]
    shared = environment()
    said = {subprocess.run(command, env=shared, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(said) == 1
    assert said.pop().split()[1] == b"False"
    # Negative control: each worker's own order.
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    own = {subprocess.run(command, env=os.environ, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(own) == 2


def test_one_failed_run_makes_the_whole_fail() -> None:
    cases: list[tuple[list[int], int]] = [
        ([0, 0], 0),
        ([1, 0], 1),
        ([0, 1], 1),
        ([3, 1], 3),
        ([2], 2),
        ([5, 0], 0),
        ([0, 5], 0),
        ([5, 5], 5),
    ]
    for codes, code in cases:
        with in_case(codes, code):
            assert verdict(codes) == code
