"""The three steps of a rotation, from wherever it is: accepted beside the old, in use instead of it, alone.

Each is written down before it is made true, so a rotation that was killed goes on, and never begins anew instead.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.spec.rotation import Phase, Rotation

Say = Callable[[str], None]


class Steppable(Protocol):
    """A stack: what is wanted of it, what the last finished `up` made of it, and how to make what is wanted true."""

    def wanted(self) -> Rotation: ...

    def applied(self) -> Rotation: ...

    def apply(self, rotation: Rotation | None = None) -> None: ...


@dataclass(frozen=True)
class Plan:
    """What goes through the steps, how each step is called, and what has to hold before one.

    `before_moving` and `before_retiring` are given the time at which the step before was done (UTC); they wait and
    look, and raise to stop where the stack is.
    """

    names: tuple[str, ...]
    prepare: str
    move: str
    retire: str
    before_moving: Callable[[dt.datetime], None]
    before_retiring: Callable[[dt.datetime], None]


@dataclass(frozen=True)
class Course:
    """How far it came: what had been begun before, and whether the old is gone."""

    resumed: tuple[str, ...]
    is_over: bool


def take_steps(stack: Steppable, plan: Plan, *, keep_old: bool, say: Say) -> Course:
    """Take every name to its next generation, or a begun one to its end; with `keep_old` not the last step."""
    rotation, applied = stack.wanted(), stack.applied()
    interrupted = {name for name in plan.names if rotation.of(name) != applied.of(name)}
    resumed = tuple(n for n in plan.names if n in interrupted or rotation.of(n).phase is not Phase.AT_REST)
    finish_interrupted(stack, say)
    done_at = {
        name: _now() if name in interrupted else rotation.of(name).since or _now() for name in plan.names
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
        say("the old is still accepted; the same command without --keep-old ends that")
        return Course(resumed, is_over=False)
    if moved:
        plan.before_retiring(max(done_at[n] for n in moved))
        step(moved, 3, plan.retire)
    return Course(resumed, is_over=True)


def finish_interrupted(stack: Steppable, say: Say) -> None:
    """Make true what is wanted, where the `up` for it did not get to its end."""
    if stack.wanted() != stack.applied():
        say("finishing the step that was interrupted")
        stack.apply()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
