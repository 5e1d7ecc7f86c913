"""Rotations that are refused change nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from infra.docker.engine import docker
from infra.spec.checkout import Checkout
from ops.cli import main
from ops.errors import Exit
from ops.stack.pulumi_stack import PulumiStack
from tests.containers import pause
from tests.infra.conftest import STACK, LiveStack
from tests.promises import promise


@pytest.fixture
def refusal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """refusal("passwords", "--yes") runs a rotation without a terminal. It returns the exit code and the one line."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main(["rotate", *arguments, "--stack", STACK])
        shown = capsys.readouterr()
        assert shown.out == "", arguments
        assert len(shown.err.strip().splitlines()) == 1, shown.err
        return int(ended.value.code or 0), shown.err

    return run


REFUSED: list[tuple[list[str], Exit, str]] = [
    (["passwords", "nobody", "--yes"], Exit.USAGE, "unknown role 'nobody'"),
    (["passwords", "--yes"], Exit.USAGE, "pass either role names or --all"),
    (["passwords", "app"], Exit.REFUSED, "pass --yes"),
    (["certificates"], Exit.REFUSED, "pass --yes"),
]


@promise("an impossible rotation fails in one line and changes nothing")
def test_impossible_rotation_fails_in_one_line_and_changes_nothing(
    live_stack: LiveStack, refusal: Callable[..., tuple[int, str]]
) -> None:
    state = PulumiStack(Checkout.here(), STACK).state_file
    before = state.read_bytes()
    for arguments, code, words in REFUSED:
        found, line = refusal(*arguments)
        assert found == code, (arguments, line)
        assert words in line
    assert state.read_bytes() == before


@promise("an impossible rotation fails in one line and changes nothing")
def test_frozen_server_fails_the_rotation_in_one_line_and_changes_nothing(
    live_stack: LiveStack, refusal: Callable[..., tuple[int, str]]
) -> None:
    state = PulumiStack(Checkout.here(), STACK).state_file
    before = state.read_bytes()
    with _paused(live_stack.container("redis")):
        for arguments in (["passwords", "app"], ["certificates"]):
            code, line = refusal(*arguments, "--yes")
            assert code == Exit.UNREACHABLE
            assert "redis of stack 'test' does not run" in line
    assert state.read_bytes() == before


@contextmanager
def _paused(container: str) -> Iterator[None]:
    pause(container)
    try:
        yield
    finally:
        docker("unpause", container)
