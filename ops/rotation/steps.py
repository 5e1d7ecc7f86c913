"""The three steps of a rotation: accept the new secret next to the old one, use it, and revoke the old one.

Each step is recorded before it is applied, so that a killed rotation is resumed and never restarted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.spec.rotation import Phase, Rotation

Say = Callable[[str], None]


class Steppable(Protocol):
    """A stack's wanted rotation, the one that the last finished `up` applied, and how to apply a rotation."""

    def wanted(self) -> Rotation: ...

    def applied(self) -> Rotation: ...

    def apply(self, rotation: Rotation | None = None) -> None: ...

    def was_killed(self) -> bool:
        """Return whether the last `apply` has not returned."""


@dataclass(frozen=True)
class RotationPlan:
    """The names to rotate, a text for each step, and hooks that run before the second and third step.

    The hooks get the time at which the previous step was finished (UTC). They may wait, or raise to stop the rotation
    at that point.
    """

    names: tuple[str, ...]
    prepare: str
    move: str
    retire: str
    before_moving: Callable[[dt.datetime], None]
    before_retiring: Callable[[dt.datetime], None]


@dataclass(frozen=True)
class Course:
    """The outcome: names whose rotation had begun before, and whether the old secrets are revoked."""

    resumed: tuple[str, ...]
    is_over: bool


def take_steps(stack: Steppable, plan: RotationPlan, *, keep_old: bool, say: Say) -> Course:
    """Rotate every name to its next generation, or complete its rotation. `keep_old` leaves out the last step."""
    rotation, applied = stack.wanted(), stack.applied()
    interrupted = {name for name in plan.names if rotation.of(name) != applied.of(name)}
    resumed = tuple(n for n in plan.names if n in interrupted or rotation.of(n).phase is not Phase.AT_REST)
    # Another `up` may have finished the step of a killed rotation. It is not known when.
    is_unknown = stack.was_killed()
    finish_interrupted(stack, say)
    now = _now()
    # A time in the future was recorded when the clock was ahead.
    done_at = {
        name: now if is_unknown or name in interrupted else min(rotation.of(name).since or now, now)
        for name in plan.names
    }

    def step(names: Sequence[str], number: int, text: str) -> None:
        nonlocal rotation
        say(f"step {number} of 3, {', '.join(names)}: {text}")
        rotation = rotation.step(names, _now())
        stack.apply(rotation)
        done_at.update(dict.fromkeys(names, _now()))

    if fresh := [n for n in plan.names if n not in resumed]:
        step(fresh, 1, plan.prepare)
    if prepared := [n for n in plan.names if rotation.of(n).phase is Phase.PREPARED]:
        plan.before_moving(max(done_at[n] for n in prepared))
        step(prepared, 2, plan.move)
    moved = [n for n in plan.names if rotation.of(n).phase is Phase.MOVED]
    if moved and keep_old:
        say("the old one is still accepted; run the same command without --keep-old to revoke it")
        return Course(resumed, is_over=False)
    if moved:
        plan.before_retiring(max(done_at[n] for n in moved))
        step(moved, 3, plan.retire)
    return Course(resumed, is_over=True)


def finish_interrupted(stack: Steppable, say: Say) -> None:
    """Apply the wanted rotation if the `up` that should have applied it did not finish."""
    if stack.wanted() != stack.applied():
        say("finishing an interrupted step")
        stack.apply()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
