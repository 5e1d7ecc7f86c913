"""How `python -m tests` shares tests out: what it runs together, what by itself, and that nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.__main__ import BESIDE_NOTHING, TWO_AT_A_TIME, verdict
from tests.lanes import LIVE_STACK, lane_of

ROOT = Path(__file__).parents[3]


def _uses_the_live_stack(path: Path) -> bool:
    return "live_stack:" in path.read_text()


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests" / "infra").rglob("test_*.py"))
        if _uses_the_live_stack(path)
    ],
)
def test_a_file_that_uses_the_live_stack_is_in_its_lane(path: str) -> None:
    assert lane_of(f"{path}::test_x") == "the live stack"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tests/unit/db/test_a.py::test_x[a::b]", "tests/unit/db/test_b.py::test_y", True),
        ("tests/unit/db/test_a.py::test_x", "tests/unit/cache/test_a.py::test_x", False),
        ("tests/infra/test_lifecycle.py::test_x", "tests/infra/test_bad_settings.py::test_x", False),
        ("tests/faults/test_backups.py::test_x", "tests/faults/test_bad_values.py::test_x", False),
        ("tests/infra/test_egress.py::test_x", "tests/infra/rotation/test_rotation.py::test_x", True),
    ],
)
def test_a_folder_stays_together_and_a_checkout_of_its_own_alone(
    one: str, other: str, together: bool
) -> None:
    assert (lane_of(one) == lane_of(other)) is together


def test_every_folder_of_tests_is_run() -> None:
    run = [path for path in (*TWO_AT_A_TIME, *BESIDE_NOTHING) if not path.startswith("-")]
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert [file for file in sorted(files) if not file.startswith(tuple(run))] == []


def test_what_is_named_is_there() -> None:
    named = (*TWO_AT_A_TIME, *BESIDE_NOTHING[:1], *LIVE_STACK)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_one_run_leaves_out_the_other_has() -> None:
    left_out = {o.partition("=")[2] for o in BESIDE_NOTHING if o.startswith(("--deselect=", "--ignore="))}
    assert left_out <= set(TWO_AT_A_TIME)


@pytest.mark.parametrize(
    ("codes", "code"),
    [([0, 0], 0), ([1, 0], 1), ([0, 1], 1), ([3, 1], 3), ([2], 2), ([5, 0], 0), ([0, 5], 0), ([5, 5], 5)],
)
def test_one_failure_is_the_verdict(codes: list[int], code: int) -> None:
    assert verdict(codes) == code
