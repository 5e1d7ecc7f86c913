"""The catalogue of promises: a promise without a test or page, and an unknown promise, are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import render_promises
from scripts.render_promises import Promise

TESTS = """
from tests.promises import promise

@promise("a read is right")
@pytest.mark.parametrize("x", [1])
def test_read(x): ...

class TestWrites:
    @promise("a write is kept")
    async def test_write(self): ...

@promise("a read is right", control=True)
def test_naive_read(): ...
"""
BENCHMARKS = """
| measured | median | spread | bar | |
|---|---|---|---|---|
| a hit, sync | 2 us | 1 to 3 | <= 3 us | held |
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("# Page\n\n## What is kept\n")
    (tmp_path / "docs" / "benchmarks.md").write_text(BENCHMARKS)
    return tmp_path


def problems(root: Path, *promises: Promise, source: str = TESTS) -> list[str]:
    return render_promises.assign(
        list(promises), list(render_promises.read_markers(source, "tests/unit/test_x.py")), root
    )


READ = ("a read is right", "docs/page.md#what-is-kept")
WRITE = ("a write is kept", "docs/page.md#what-is-kept")


def test_each_promise_is_rendered_with_its_tests_and_controls(root: Path) -> None:
    promises = [Promise(*READ, figure="a hit"), Promise(*WRITE)]
    assert problems(root, *promises) == []
    test, control, write = (
        f"[{name}](../tests/unit/test_x.py)" for name in ("test_read", "test_naive_read", "test_write")
    )
    text = render_promises.page(promises, root)
    assert (
        "## page.md: What is kept\n\nPromised in [docs/page.md#what-is-kept](page.md#what-is-kept).\n" in text
    )
    assert (
        f"\n| a read is right | {test} | {control} | 2 us (bar: <= 3 us) |\n| a write is kept | {write} |  |  |\n"
        in text
    )


def test_a_marker_for_a_whole_file_counts(root: Path) -> None:
    source = 'pytestmark = [promise("a read is right"), pytest.mark.x]'
    assert problems(root, Promise(*READ), source=source) == []


@pytest.mark.parametrize(
    ("promises", "problem"),
    [
        ([Promise(*READ)], "tests/unit/test_x.py: test_write names the unknown promise 'a write is kept'"),
        (
            [Promise(*READ), Promise(*WRITE), Promise("no one tests it", READ[1])],
            "'no one tests it' has no test",
        ),
        ([Promise(*READ), Promise(*WRITE), Promise(*WRITE)], "'a write is kept' is listed twice"),
        ([Promise(*READ), Promise(WRITE[0], "docs/page.md#gone")], "docs/page.md#gone does not exist"),
        ([Promise(*READ), Promise(WRITE[0], "docs/gone.md#page")], "docs/gone.md#page does not exist"),
        ([Promise(*READ), Promise(*WRITE, figure="a miss")], "has the figure 'a miss'"),
    ],
)
def test_a_problem_is_reported(root: Path, promises: list[Promise], problem: str) -> None:
    (found,) = problems(root, *promises)
    assert problem in found


def test_a_control_alone_proves_nothing(root: Path) -> None:
    source = '@promise("a read is right", control=True)\ndef test_naive_read(): ...'
    (found,) = problems(root, Promise(*READ), source=source)
    assert "has no test" in found


AT_FULL_SCALE = [
    '@pytest.mark.skipif(not IS_FULL, reason="takes long")\n@promise("a read is right")\ndef test_read(): ...',
    """
@pytest.mark.skipif(
    not IS_FULL, reason="takes long"
)
class TestReads:
    @promise("a read is right")
    def test_read(self): ...
""",
    """
pytestmark = [pytest.mark.x, pytest.mark.skipif(not IS_FULL, reason="takes long")]

class TestReads:
    @promise("a read is right")
    async def test_read(self): ...
""",
]


def test_a_promise_needs_a_test_of_every_run(root: Path) -> None:
    for source in AT_FULL_SCALE:
        (found,) = problems(root, Promise(*READ), source=source)
        assert "'a read is right' has only tests that need SCALE=full" in found, source


def test_tests_at_full_scale_are_marked_beside_one_of_every_run(root: Path) -> None:
    other_reason = (
        '@pytest.mark.skipif(not_root, reason="")\n@promise("a read is right")\ndef test_it(): ...\n'
    )
    promise = Promise(*READ)
    assert problems(root, promise, source=other_reason + AT_FULL_SCALE[0]) == []
    assert [marker.link().endswith(" (full scale)") for marker in promise.tests] == [False, True]


def test_a_measured_figure_proves_a_promise_of_speed(root: Path) -> None:
    assert problems(root, Promise(*READ, figure="a hit"), source="") == []
