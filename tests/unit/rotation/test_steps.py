"""Rotations killed at each of their points, and run again: they come to their end, and nobody is locked out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from infra.spec.rotation import Generation, Phase, Rotation
from ops.errors import Exit, OpsError
from ops.rotation.passwords import Done, known_roles, rotate_passwords
from tests.unit.rotation.stack import FakeStack, Killed

POINTS = 17


def rotate(stack: FakeStack, *names: str, **options: Any) -> Done:
    given: dict[str, Any] = {"grace_seconds": 0.0, "keep_old": False, "try_out": lambda _: None}
    given |= {"say": lambda _: None, "sleep": lambda _: None} | options
    return rotate_passwords(stack, names, **given)


def kill(stack: FakeStack, at: int, *names: str) -> None:
    stack.kill_at = at
    with pytest.raises(Killed):
        rotate(stack, *names)
    stack.kill_at = None


def test_the_points_of_a_rotation_are_those_that_it_is_killed_at() -> None:
    stack = FakeStack()
    rotate(stack, "app")
    assert stack.points == POINTS - 1


def test_a_rotation_is_three_steps_to_the_next_generation() -> None:
    stack = FakeStack()
    done = rotate(stack, "app", "ops")
    assert stack.ups == 3
    for name in ("app", "ops"):
        assert (stack.exported.of(name).in_use, stack.exported.of(name).accepted) == (2, (2,))
    assert stack.exported.of("monitor") == Generation()
    assert (done.resumed, done.old_is_void) == ((), True)


@pytest.mark.parametrize("clients_first", [True, False], ids=["clients first", "servers first"])
@pytest.mark.parametrize("point", range(1, POINTS))
def test_a_killed_rotation_is_finished_by_the_same_command(point: int, clients_first: bool) -> None:
    stack = FakeStack(clients_first=clients_first)
    kill(stack, point, "app")
    done = rotate(stack, "app")
    # At the last point all was done: the next run is another rotation.
    generation = 3 if point == POINTS - 1 else 2
    assert stack.exported == stack.written
    assert stack.exported.of("app").accepted == (generation,)
    assert done.old_is_void
    assert stack.locked_out == []


@pytest.mark.parametrize("first", range(1, POINTS))
@pytest.mark.parametrize("second", [1, 3, 5, 8])
def test_a_rotation_killed_twice_is_finished_by_the_same_command(first: int, second: int) -> None:
    stack = FakeStack()
    kill(stack, first, "app")
    stack.points = 0
    try:
        kill(stack, second, "app")
    except pytest.fail.Exception:
        return
    rotate(stack, "app")
    assert len(stack.exported.of("app").accepted) == 1
    assert stack.exported == stack.written
    assert stack.locked_out == []


def test_the_naive_way_locks_callers_out() -> None:
    """The control: one step from the old password to the new one, for servers and clients alike."""
    stack = FakeStack()
    stack.apply(Rotation({"app": Generation(2, (2,))}))
    assert stack.locked_out


def test_keep_old_stops_before_the_last_step_and_the_next_run_takes_it() -> None:
    stack = FakeStack()
    assert rotate(stack, "app", keep_old=True).old_is_void is False
    assert stack.exported.of("app").phase is Phase.MOVED
    rotate(stack, "app", keep_old=True)
    assert stack.ups == 2
    done = rotate(stack, "app")
    assert (done.resumed, done.old_is_void, stack.exported.of("app").in_use) == (("app",), True, 2)


def test_what_was_begun_is_finished_beside_what_begins() -> None:
    stack = FakeStack()
    rotate(stack, "app", keep_old=True)
    done = rotate(stack, "app", "ops")
    assert done.resumed == ("app",)
    assert (stack.exported.of("app").in_use, stack.exported.of("ops").in_use) == (2, 2)
    assert stack.exported.phases() == {}


def test_a_new_password_that_lets_nobody_in_leaves_the_old_one() -> None:
    def refuse(_: Sequence[str]) -> None:
        raise OpsError("no way in")

    stack = FakeStack()
    with pytest.raises(OpsError, match="no way in"):
        rotate(stack, "app", try_out=refuse)
    assert stack.servers.of("app").accepted == (1, 2)
    rotate(stack, "app")
    assert stack.exported.of("app").accepted == (2,)


def test_the_grace_is_waited_out_and_sessions_left_are_told() -> None:
    stack = FakeStack(open_sessions={"app_a": 3, "app_b": 8})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    done = rotate(stack, "app", grace_seconds=1.0, sleep=sleep)
    assert 0 < sum(slept) <= 1.0
    assert done.ended == {"app_a": 3}


@pytest.mark.parametrize(
    ("name", "words"), [("ap", "did you mean app?"), ("nobody", "there are: app, readonly")]
)
def test_an_unknown_role_is_told_with_those_there_are(name: str, words: str) -> None:
    with pytest.raises(OpsError, match="no role") as raised:
        known_roles(["app", name])
    assert raised.value.exit_code == Exit.USAGE
    assert words in str(raised.value)
