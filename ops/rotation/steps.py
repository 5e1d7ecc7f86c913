"""The three steps of a rotation: accept the new secret next to the old one, use it, and revoke the old one.

Each step is recorded before it is applied, so that a killed rotation is resumed and never restarted. The record is kept
until the checks after the last step have passed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from infra.spec.rotation import NAMES, REPLACED_AT_ONCE, Phase, Rotation

Say = Callable[[str], None]


class Steppable(Protocol):
    """A stack's wanted rotation, the one that the last finished `up` applied, and how to apply a rotation."""

    def wanted(self) -> Rotation: ...

    def applied(self) -> Rotation: ...

    def apply(self, rotation: Rotation) -> None: ...

    def progress(self) -> Rotation:
        """Return the last step of each name whose rotation is not complete.

        `since` is when the step was applied, or None if its `apply` has not returned.
        """

    def record(self, progress: Rotation) -> None:
        """Store what `progress` returns."""

    def require_healthy(self) -> None:
        """Raise OpsError if a part of the stack is not healthy. `apply` checks this too."""


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
    """The outcome: names whose rotation had begun before, and whether the old secrets are revoked.

    `ended`: those of `resumed` that had no step left, so that only the caller's checks remain.
    """

    resumed: tuple[str, ...]
    ended: tuple[str, ...]
    is_over: bool


def take_steps(stack: Steppable, plan: RotationPlan, *, keep_old: bool, say: Say) -> Course:
    """Rotate every name to its next generation, or complete its rotation. `keep_old` leaves out the last step.

    The caller checks the result and then calls `conclude`.
    """
    finish_interrupted(stack, say)
    rotation, now = stack.wanted(), _now()
    resumed = tuple(name for name in plan.names if has_begun(stack, name))
    ended = tuple(name for name in resumed if rotation.of(name).phase is Phase.AT_REST)
    if ended:
        stack.require_healthy()
    # If another `up` finished the step of a killed rotation, it is not known when. A time in the future was recorded
    # when the clock was ahead.
    done_at = {name: min(_applied_at(stack, name) or now, now) for name in plan.names}

    def step(number: int, *parts: tuple[Sequence[str], str]) -> None:
        nonlocal rotation
        for names, text in parts:
            if names:
                say(f"step {number} of 3, {', '.join(names)}: {text}")
            rotation = rotation.step(names, _now())
        apply(stack, rotation)
        done_at.update(dict.fromkeys((name for names, _ in parts for name in names), _now()))

    if fresh := [n for n in plan.names if n not in resumed]:
        # Such a role has nothing to prepare. Its `up` may fail after the roles, at a migration, and then a step before
        # this one would keep a stolen password valid.
        at_once = [n for n in fresh if n in REPLACED_AT_ONCE]
        rotation = rotation.step(at_once, now)
        step(1, ([n for n in fresh if n not in at_once], plan.prepare), (at_once, plan.move))
    if prepared := [n for n in plan.names if rotation.of(n).phase is Phase.PREPARED]:
        plan.before_moving(max(done_at[n] for n in prepared))
        step(2, (prepared, plan.move))
    moved = [n for n in plan.names if rotation.of(n).phase is Phase.MOVED]
    if moved and keep_old:
        accepted = [n for n in moved if n not in REPLACED_AT_ONCE]
        old = (
            f"the old one of {', '.join(accepted)} is still accepted"
            if accepted
            else "no old one is accepted"
        )
        say(f"{old}; run the same command without --keep-old to finish the rotation")
        return Course(resumed, ended, is_over=False)
    if moved:
        plan.before_retiring(max(done_at[n] for n in moved))
        step(3, (moved, plan.retire))
    return Course(resumed, ended, is_over=True)


def has_begun(stack: Steppable, name: str) -> bool:
    """Return whether a rotation of `name` is not complete: between two steps, or before the checks at its end."""
    wanted = stack.wanted().of(name)
    return (
        wanted != stack.applied().of(name) or wanted.phase is not Phase.AT_REST or _is_recorded(stack, name)
    )


def finish_interrupted(stack: Steppable, say: Say) -> None:
    """Apply the wanted rotation if the `up` that should have applied it did not finish."""
    if stack.wanted() != stack.applied():
        say("finishing an interrupted step")
        apply(stack, stack.wanted())


def apply(stack: Steppable, rotation: Rotation) -> None:
    """Apply a rotation, and record the steps that it takes: before, and with the time after it."""
    applied = stack.applied()
    changed = [name for name in NAMES if rotation.of(name) != applied.of(name)]

    def record(since: dt.datetime | None) -> None:
        steps = {name: replace(rotation.of(name), since=since) for name in changed}
        stack.record(Rotation({**stack.progress().generations, **steps}))

    record(None)
    stack.apply(rotation)
    record(_now())


def conclude(stack: Steppable, names: Sequence[str], ended: Sequence[str], say: Say) -> None:
    """Record that the rotations of `names` are complete, after the checks at their end.

    `ended` are those that had no step left when this command began. It did not rotate them again, and says so.
    """
    over = {name for name in names if stack.wanted().of(name).phase is Phase.AT_REST}
    progress = stack.progress().generations
    stack.record(Rotation({name: step for name, step in progress.items() if name not in over}))
    if ended:
        say(
            f"the interrupted rotation of {', '.join(ended)} is complete; run the same command again for another one"
        )


def _is_recorded(stack: Steppable, name: str) -> bool:
    """Return whether the wanted step of `name` is the recorded one."""
    progress = stack.progress()
    return name in progress.generations and progress.of(name).is_step(stack.wanted().of(name))


def _applied_at(stack: Steppable, name: str) -> dt.datetime | None:
    return stack.progress().of(name).since if _is_recorded(stack, name) else None


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
