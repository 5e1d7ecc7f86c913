"""A run with a stack that exists only here: every fault is undone, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops.chaos import run as running
from ops.chaos.faults import FaultImpossible
from ops.chaos.journal import ActiveFault, Journal
from ops.chaos.outcome import Run
from ops.chaos.plan import FREEZE, KILL, SWITCHOVER, Step
from ops.chaos.run import RECOVERY_SECONDS, Runner
from ops.errors import OpsError
from tests.promises import promise

_START = 1000.0


class Clock:
    """Passes only when somebody sleeps. `events` maps a time of the run to what happens then."""

    def __init__(self) -> None:
        self.now = _START
        self.events: dict[float, Callable[[], None]] = {}

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at in sorted(self.events):
            if self.now - _START >= at:
                self.events.pop(at)()


class Stack:
    """A stack with one Postgres, and its injector. `log` has what happened."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.log: list[str] = []
        self.found: list[str] = []
        self.error: BaseException | None = None

    def server(self, target: str) -> str:
        if target == "redis primary":
            raise FaultImpossible("no Redis server is the primary")
        return "postgres"

    def container(self, service: str) -> str:
        return f"gw-{service}"

    def switch_over(self, service: str) -> None:
        self.log.append(f"switchover {service}")
        if self.error:
            raise self.error

    def problems(self) -> list[str]:
        return self.found

    def cause(self, active: ActiveFault, seconds: int) -> str:
        # The journal must already have it.
        assert self.journal.active() == [active]
        self.log.append(f"{active.fault} {active.container}")
        if self.error:
            raise self.error
        return "done"

    def undo(self, active: ActiveFault) -> None:
        self.log.append(f"undo {active.fault}")


class Load:
    name = "fake"

    def __init__(self) -> None:
        self.is_over = False
        self.log: list[str] = []

    def start(self, began: float) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(running, "time", clock)
    monkeypatch.setattr("ops.chaos.undo.time", clock)
    return clock


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    checkout = Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")
    return Stack(Journal(checkout, "dev"))


def run(stack: Stack, load: Load, *steps: Step, left: int = 0, total: int = 100) -> Run:
    """Run the steps in `total` seconds. `left` is how many faults remain in the journal."""
    done = Run("dev", 1, _START, "fake", has_replicas=False)
    runner: Any = Runner(done, stack, stack, stack.journal, load, lambda _: None)  # type: ignore[arg-type]
    runner.run(steps, total)
    assert load.log == ["start", "stop"]
    assert len(stack.journal.active()) == left
    return done


STEP = Step(5, FREEZE, "postgres primary", 20)


def test_a_fault_lasts_as_long_as_planned(stack: Stack, clock: Clock) -> None:
    done = run(stack, Load(), STEP, Step(30, SWITCHOVER, "postgres primary", 0))
    assert stack.log == ["freeze gw-postgres", "undo freeze", "switchover postgres"]
    first, second = done.faults
    assert (first.began, first.ended, first.recovered, first.note) == (5, 25, 25, "done")
    assert second.began == 30
    assert (done.seconds, done.left, done.was_stopped) == (100, [], False)


@promise("chaos undoes each of its faults")
@pytest.mark.parametrize("error", [DockerError("no engine"), FaultImpossible("no space")])
def test_a_fault_that_fails_is_undone(stack: Stack, clock: Clock, error: Exception) -> None:
    stack.error = error
    done = run(stack, Load(), STEP)
    (found,) = done.faults
    assert stack.log == ["freeze gw-postgres", "undo freeze"]
    assert found.problem == str(error)
    failed = [] if isinstance(error, FaultImpossible) else [f"freeze of postgres (primary) failed: {error}"]
    assert done.failed_faults() == [*failed, "no fault took effect"]
    assert (done.not_undone, done.left) == ([], [])


@promise("chaos undoes each of its faults")
def test_an_interrupt_undoes_the_fault_and_ends_the_run(stack: Stack, clock: Clock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.events[12] = interrupt
    done = run(stack, Load(), STEP, Step(50, KILL, "postgres primary", 5))
    assert stack.log == ["freeze gw-postgres", "undo freeze"]
    assert done.was_stopped
    assert done.seconds < 15
    assert done.faults[0].began < done.faults[0].ended <= done.seconds


def test_an_interrupt_ends_the_run_although_the_fault_cannot_be_undone(stack: Stack, clock: Clock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    def fail(active: ActiveFault) -> None:
        raise DockerError("no engine")

    stack.undo = fail  # type: ignore[method-assign]
    clock.events[12] = interrupt
    done = run(stack, Load(), STEP, Step(50, KILL, "postgres primary", 5), left=1)
    assert done.was_stopped
    assert done.seconds < 20
    assert done.not_undone == ["freeze of postgres"]


def test_a_run_that_is_stopped_before_its_first_fault_has_not_failed(stack: Stack, clock: Clock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    clock.events[2] = interrupt
    done = run(stack, Load(), STEP)
    assert (done.was_stopped, done.faults, done.failed_faults()) == (True, [], [])


def test_an_interrupt_while_a_fault_begins_undoes_it(stack: Stack, clock: Clock) -> None:
    stack.error = KeyboardInterrupt()
    assert run(stack, Load(), STEP).was_stopped
    assert stack.log == ["freeze gw-postgres", "undo freeze"]


def test_the_next_fault_waits_for_the_recovery(stack: Stack, clock: Clock) -> None:
    def recover() -> None:
        stack.found = []

    def fail() -> None:
        stack.found = ["Postgres: no primary"]

    clock.events |= {10: fail, 40: recover}
    first, second = run(stack, Load(), STEP, Step(30, KILL, "postgres primary", 5)).faults
    assert first.recovery_seconds == pytest.approx(15, abs=1)
    assert second.began >= 40


def test_a_stack_that_does_not_recover_is_reported(stack: Stack, clock: Clock) -> None:
    stack.found = ["Postgres: no primary"]
    done = run(stack, Load(), STEP, Step(30, KILL, "postgres primary", 5))
    assert done.left == ["Postgres: no primary"]
    assert stack.log == ["freeze gw-postgres", "undo freeze"]
    assert [reason for _, reason in done.skipped] == ["the servers have not recovered"]
    assert done.faults[0].recovered is None
    # It waited once, as long as docs/chaos.md says.
    assert 25 + RECOVERY_SECONDS <= done.seconds < 25 + RECOVERY_SECONDS + 5


def test_a_run_ends_at_once_after_its_last_fault_failed(stack: Stack, clock: Clock) -> None:
    def fail(active: ActiveFault) -> None:
        raise DockerError("no engine")

    later = Step(10_000, KILL, "postgres primary", 5)
    stack.found = ["Postgres: no primary"]
    # The last fault of a plan, and one before another.
    for steps in ((STEP,), (STEP, later)):
        done = run(stack, Load(), *steps, total=14_400)
        assert done.seconds < 25 + RECOVERY_SECONDS + 5
        assert done.left == ["Postgres: no primary"]
    stack.found, stack.undo = [], fail  # type: ignore[method-assign]
    done = run(stack, Load(), STEP, later, total=14_400, left=1)
    assert done.seconds < 60
    assert [reason for _, reason in done.skipped] == ["an earlier fault was not undone"]


def test_a_look_at_the_servers_that_fails_is_repeated(stack: Stack, clock: Clock) -> None:
    def fail() -> list[str]:
        if clock.now < _START + 40:
            raise DockerError("docker inspect: no answer\nwithin 60 s")
        return []

    stack.problems = fail  # type: ignore[method-assign]
    (found,) = run(stack, Load(), STEP).faults
    assert found.recovery_seconds == pytest.approx(15, abs=1)


def test_docker_that_never_answers_is_reported(stack: Stack, clock: Clock) -> None:
    def fail() -> list[str]:
        raise DockerError("docker inspect: no answer\nwithin 60 s")

    def interrupt() -> None:
        raise KeyboardInterrupt

    stack.problems = fail  # type: ignore[method-assign]
    reason = "Docker: docker inspect: no answer within 60 s"
    assert run(stack, Load(), STEP).left == [reason]
    clock.now = _START
    clock.events[12] = interrupt
    done = run(stack, Load(), STEP)
    assert (done.left, done.was_stopped) == ([reason], True)


def test_an_interrupt_while_the_load_starts_ends_the_run(stack: Stack, clock: Clock) -> None:
    class Slow(Load):
        def start(self, began: float) -> None:
            super().start(began)
            raise KeyboardInterrupt

    done = run(stack, Slow(), STEP)
    assert (done.was_stopped, done.faults, stack.log) == (True, [], [])


def test_faults_without_a_server_or_without_time_are_skipped(stack: Stack, clock: Clock) -> None:
    steps = Step(5, KILL, "redis primary", 5), Step(90, KILL, "postgres primary", 20)
    assert [reason for _, reason in run(stack, Load(), *steps).skipped] == [
        "no Redis server is the primary",
        "no time was left",
    ]
    assert stack.log == []


def test_a_load_that_ends_ends_the_run(stack: Stack, clock: Clock) -> None:
    load = Load()

    def end() -> None:
        load.is_over = True

    clock.events[8] = end
    done = run(stack, load, STEP, Step(50, KILL, "postgres primary", 5))
    # The fault is undone early too.
    assert stack.log == ["freeze gw-postgres", "undo freeze"]
    assert done.seconds < 10


def test_a_fault_that_cannot_be_undone_stays_in_the_journal(stack: Stack, clock: Clock) -> None:
    def fail(active: ActiveFault) -> None:
        raise DockerError("no engine")

    stack.undo = fail  # type: ignore[method-assign]
    done = run(stack, Load(), STEP, Step(50, KILL, "postgres primary", 5), left=1)
    assert done.faults[0].problem.startswith("cannot undo the freeze of postgres: no engine")
    assert [reason for _, reason in done.skipped] == ["an earlier fault was not undone"]
    assert done.left == [
        "the freeze of postgres was not undone; run `groundwork chaos stop --stack dev`",
    ]
    assert done.not_undone == ["freeze of postgres"]
    assert [line.partition(":")[0] for line in done.failed_faults()] == [
        "freeze of postgres (primary) failed"
    ]


def test_a_switchover_that_fails_is_a_failed_fault(stack: Stack, clock: Clock) -> None:
    stack.error = OpsError("no synchronous replica\nsee status")
    done = run(stack, Load(), Step(5, SWITCHOVER, "postgres primary", 0))
    assert done.failed_faults() == [
        "switchover of postgres (primary) failed: no synchronous replica see status",
        "no fault took effect",
    ]


def test_a_fault_that_took_effect_is_enough(stack: Stack, clock: Clock) -> None:
    steps = Step(5, KILL, "redis primary", 5), Step(20, KILL, "postgres primary", 5)
    assert run(stack, Load(), *steps).failed_faults() == []
    assert run(stack, Load(), steps[0]).failed_faults() == ["no fault took effect"]
