"""`make check` runs every step, names a failed one with its output, and loses no output of a step."""

from __future__ import annotations

import sys

import pytest

from scripts import check


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_every_step_runs_and_a_failed_one_is_named_with_its_output(
    capfd: pytest.CaptureFixture[str],
) -> None:
    steps = {
        "bad": python("import sys; print('said first'); print('said last', file=sys.stderr); sys.exit(3)"),
        "good": python("print('a warning')"),
    }
    assert check.main(steps) == 1
    out, err = capfd.readouterr()
    assert "== bad: FAILED with exit code 3 (" in out
    assert "said first\n" in out
    assert "said last\n" in out
    assert "== good: ok (" in out
    assert "a warning\n" in out
    assert out.splitlines()[-1].endswith("failed: bad")
    assert err == ""


def test_passing_steps_are_exit_code_0(capfd: pytest.CaptureFixture[str]) -> None:
    assert check.main({"good": python("pass")}) == 0
    assert capfd.readouterr().out.splitlines()[-1].endswith("all are clean")
