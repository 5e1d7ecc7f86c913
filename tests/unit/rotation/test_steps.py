"""Rotations that are killed at each step and run again: they finish, and no client is locked out."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from infra.spec.rotation import REDIS_SERVER_ROLES, ROLES, Generation, Phase, Rotation
from ops.errors import Exit, OpsError
from ops.rotation.passwords import PasswordRotation, known_roles, rotate_passwords
from ops.rotation.steps import RotationPlan, take_steps
from tests.cases import in_case
from tests.promises import promise
from tests.unit.rotation.stack import FakeStack, Killed

POINTS = 24


def rotate(stack: FakeStack, *names: str, **options: Any) -> PasswordRotation:
    given: dict[str, Any] = {"grace_seconds": 0.0, "keep_old": False, "try_out": lambda *_: None}
    given |= {"say": lambda _: None, "sleep": lambda _: None} | options
    return rotate_passwords(stack, names, **given)


def kill(stack: FakeStack, at: int, *names: str) -> None:
    stack.kill_at = at
    with pytest.raises(Killed):
        rotate(stack, *names)
    stack.kill_at = None


def test_the_steps_of_a_rotation_are_the_ones_at_which_it_is_killed() -> None:
    stack = FakeStack()
    rotate(stack, "app")
    assert stack.points == POINTS - 1


def test_a_rotation_takes_three_steps_to_the_next_generation() -> None:
    stack = FakeStack()
    done = rotate(stack, "app", "ops")
    assert stack.ups == 3
    for name in ("app", "ops"):
        assert (stack.exported.of(name).in_use, stack.exported.of(name).accepted) == (2, (2,))
    assert stack.exported.of("monitor") == Generation()
    assert (done.resumed, done.old_is_void) == ((), True)


@promise("a killed rotation resumes at its step, and locks nobody out")
def test_a_killed_rotation_is_finished_by_the_same_command() -> None:
    orders: list[tuple[str, bool]] = [
        ("clients first", True),
        ("servers first", False),
    ]
    for name in ("app", "replica"):
        for title, clients_first in orders:
            with in_case(name, title):
                for point in range(1, POINTS):
                    stack = FakeStack(clients_first=clients_first)
                    kill(stack, point, name)
                    done = rotate(stack, name)
                    assert stack.exported == stack.written, point
                    assert stack.exported.of(name).accepted == (2,), point
                    assert done.old_is_void, point
                    assert stack.locked_out == [], point
                    assert stack.progress() == Rotation(), point


def test_a_rotation_killed_twice_is_finished_by_the_same_command() -> None:
    for second in (1, 3, 5, 8):
        with in_case(second):
            for first in range(1, POINTS):
                stack = FakeStack()
                kill(stack, first, "app")
                stack.points = 0
                try:
                    kill(stack, second, "app")
                except pytest.fail.Exception:
                    # After the first kill only a little was left to do.
                    continue
                rotate(stack, "app")
                assert stack.exported.of("app").accepted == (2,), first
                assert stack.exported == stack.written, first
                assert stack.locked_out == [], first


@promise("a killed rotation resumes at its step, and locks nobody out", control=True)
def test_the_naive_way_locks_clients_out() -> None:
    """Negative control: one step from the old password to the new one, for servers and clients together."""
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


def test_an_old_password_that_was_replaced_is_not_called_accepted() -> None:
    for names, accepted in (
        (("migrator",), "no old one is accepted"),
        (("app", "migrator"), "the old one of app is still accepted"),
    ):
        said: list[str] = []
        rotate(FakeStack(), *names, keep_old=True, say=said.append)
        assert said[-1] == f"{accepted}; run the same command without --keep-old to finish the rotation"


class BrokenLedger(FakeStack):
    """A stack whose `up` changes the roles and then fails at the migrations, until it is repaired."""

    is_repaired = False

    def apply(self, rotation: Rotation) -> None:
        if self.is_repaired:
            return super().apply(rotation)
        self.written = self.servers = rotation
        raise OpsError("the ledger is locked")


def test_a_password_of_migrator_is_replaced_although_the_migrations_fail() -> None:
    for names in (("migrator",), ("app", "migrator")):
        with in_case(names):
            stack = BrokenLedger()
            with pytest.raises(OpsError, match="locked"):
                rotate(stack, *names)
            assert (stack.servers.of("migrator").in_use, stack.servers.of("app").in_use) == (2, 1)
            stack.is_repaired = True
            done = rotate(stack, *names)
            assert (done.resumed, done.old_is_void) == (names, True)
            assert all(stack.exported.of(name).accepted == (2,) for name in names)


@promise("a killed rotation resumes at its step, and locks nobody out")
def test_a_rotation_whose_last_step_another_up_applied_is_not_started_again() -> None:
    said: list[str] = []
    tried: list[tuple[Sequence[str], bool]] = []
    stack = FakeStack()
    # The last step is requested, and its `up` has begun.
    kill(stack, POINTS - 5, "app")
    assert stack.written.of("app").accepted == (2,)
    stack.servers = stack.clients = stack.exported = stack.written
    ups = stack.ups
    done = rotate(stack, "app", try_out=lambda *given: tried.append(given), say=said.append)
    assert (done.resumed, done.old_is_void, stack.ups, tried) == (("app",), True, ups, [(("app",), True)])
    assert said[-1] == (
        "the interrupted rotation of app is complete; run the same command again for another one"
    )
    rotate(stack, "app")
    assert stack.exported.of("app").accepted == (3,)


def test_a_failed_check_after_the_last_step_is_repeated_without_another_rotation() -> None:
    stack = FakeStack()
    rotate(stack, "app", keep_old=True)
    stack.is_healthy = False
    for _ in range(2):
        with pytest.raises(OpsError, match="not healthy"):
            rotate(stack, "app")
        assert stack.exported.of("app").accepted == (2,)
    stack.is_healthy = True
    # The check of one role does not complete the rotation of another.
    rotate(stack, "ops")
    assert rotate(stack, "app", "ops").resumed == ("app",)
    assert (stack.exported.of("app").accepted, stack.exported.of("ops").accepted) == ((2,), (3,))


def test_an_unfinished_rotation_is_finished_together_with_a_new_one() -> None:
    stack = FakeStack()
    rotate(stack, "app", keep_old=True)
    done = rotate(stack, "app", "ops")
    assert done.resumed == ("app",)
    assert (stack.exported.of("app").in_use, stack.exported.of("ops").in_use) == (2, 2)
    assert stack.exported.phases() == {}


@promise("a new password that does not work does not replace the old one")
def test_a_new_password_that_does_not_work_keeps_the_old_one() -> None:
    def refuse(_: Sequence[str], old_is_void: bool) -> None:
        assert not old_is_void
        raise OpsError("no way in")

    stack = FakeStack()
    with pytest.raises(OpsError, match="no way in"):
        rotate(stack, "app", try_out=refuse)
    assert stack.servers.of("app").accepted == (1, 2)
    rotate(stack, "app")
    assert stack.exported.of("app").accepted == (2,)


def test_remaining_sessions_are_reported_after_the_grace_period() -> None:
    stack = FakeStack(open_sessions={"app_a": 3, "app_b": 8})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds)

    done = rotate(stack, "app", grace_seconds=1.0, sleep=sleep)
    assert 0 < sum(slept) <= 1.0
    assert done.ended == {"app_a": 3}


HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("ended", "is_now"),
    [(-HOUR, False), (None, True), (HOUR, True)],
    ids=["a step that was applied", "a step that another up applied", "the clock was ahead"],
)
def test_the_grace_period_begins_when_the_step_is_applied_and_is_not_longer(
    ended: dt.timedelta | None, is_now: bool
) -> None:
    began = dt.datetime.now(dt.UTC)
    moved = Rotation().step(["app"], began - 2 * HOUR).step(["app"], began - 2 * HOUR)
    applied = None if ended is None else began + ended
    progress = Rotation({"app": replace(moved.of("app"), since=applied)})
    stack = FakeStack(moved, moved, moved, moved, recorded=progress)
    applied_at: list[dt.datetime] = []
    plan = RotationPlan(
        ("app",), "", "", "", before_moving=applied_at.append, before_retiring=applied_at.append
    )
    take_steps(stack, plan, keep_old=False, say=lambda _: None)
    (found,) = applied_at
    if is_now:
        assert began <= found <= dt.datetime.now(dt.UTC)
    else:
        assert found == applied


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupted_wait_counts_from_the_end_of_a_step_that_took_long(step: int) -> None:
    """With a grace period as long as an `up`, nothing of it would be left if the wait counted from the step's start."""
    now = dt.datetime.now(dt.UTC)

    def interrupt(_: dt.datetime) -> None:
        raise Killed

    class SlowStack(FakeStack):
        def apply(self, rotation: Rotation) -> None:
            time.sleep(0.05)
            super().apply(rotation)

    ends: list[dt.datetime] = []
    hooks = [interrupt if each == step else lambda _: None for each in (1, 2)]
    stack = SlowStack()
    plan = RotationPlan(("app",), "", "", "", before_moving=hooks[0], before_retiring=hooks[1])
    with pytest.raises(Killed):
        take_steps(stack, plan, keep_old=False, say=lambda _: None)
    ended = dt.datetime.now(dt.UTC)
    hooks[step - 1] = ends.append
    plan = RotationPlan(("app",), "", "", "", before_moving=hooks[0], before_retiring=hooks[1])
    take_steps(stack, plan, keep_old=False, say=lambda _: None)
    assert now + step * dt.timedelta(seconds=0.05) <= ends[0] <= ended


@pytest.mark.parametrize(("name", "words"), [("ap", "did you mean app?"), ("nobody", "roles: app, readonly")])
def test_unknown_role_is_reported_with_the_existing_roles(name: str, words: str) -> None:
    with pytest.raises(OpsError, match="unknown role") as raised:
        known_roles(["app", name], ROLES)
    assert raised.value.exit_code == Exit.USAGE
    assert words in str(raised.value)


def test_a_role_of_redis_servers_is_refused_without_replicas() -> None:
    for name in REDIS_SERVER_ROLES:
        with in_case(name):
            assert known_roles([name, "app", name], (*ROLES, *REDIS_SERVER_ROLES)) == (name, "app")
            with pytest.raises(OpsError, match="only in a stack with replicas of Redis") as raised:
                known_roles(["app", name], ROLES)
            assert raised.value.exit_code == Exit.USAGE
