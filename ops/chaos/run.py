"""Run a plan: cause each fault, undo it, and wait until every server works again."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from infra.docker.engine import DockerError
from ops.chaos.faults import FaultImpossible, FaultInjector
from ops.chaos.journal import ActiveFault, Journal
from ops.chaos.outcome import FaultOutcome, Run
from ops.chaos.plan import SWITCHOVER, Step
from ops.chaos.undo import undo
from ops.errors import OpsError
from ops.servers.errors import one_line

# A failover takes half a minute, on a busy machine longer.
RECOVERY_SECONDS = 180.0
_POLL_SECONDS = 0.5
# Each probe starts processes in the containers.
_PROBE_SECONDS = 1.0


class Load(Protocol):
    """What runs beside the faults. `start` gets the run's beginning by the monotonic clock.

    `stop` is called in any case, even if `start` was interrupted or has failed.
    """

    name: str

    def start(self, began: float) -> None: ...

    @property
    def is_over(self) -> bool: ...

    def stop(self) -> None: ...


class Target(Protocol):
    """The stack, as ops.chaos.target.ChaosTarget describes it."""

    def server(self, target: str) -> str: ...

    def container(self, service: str) -> str: ...

    def switch_over(self, service: str) -> None: ...

    def problems(self) -> list[str]: ...


class Runner:
    """Runs the steps of a plan for at most `total_seconds`, and fills in `run`. `say` gets a line for each event."""

    def __init__(
        self,
        run: Run,
        target: Target,
        injector: FaultInjector,
        journal: Journal,
        load: Load | None,
        say: Callable[[str], None],
    ) -> None:
        self._run = run
        self._target = target
        self._injector = injector
        self._journal = journal
        self._load = load
        self._say = say
        self._began = time.monotonic()

    def run(self, steps: Sequence[Step], total_seconds: float) -> None:
        """Run the steps. Every fault is undone in any case.

        An interrupt ends the run early. So does a fault that was not undone, or from which the servers do not recover.
        """
        self._began = time.monotonic()
        try:
            if self._load is not None:
                self._load.start(self._began)
            for step in steps:
                if not self._take(step, total_seconds):
                    break
            self._wait_until(total_seconds)
            if not self._run.left:
                self._run.left = self._wait_until_well()
        except KeyboardInterrupt:
            self._run.was_stopped = True
            self._run.left = self._problems()
        finally:
            self._note_active()
            self._run.seconds = self._now()
            if self._load is not None:
                self._load.stop()

    def _note_active(self) -> None:
        self._run.not_undone = [str(active) for active in self._journal.active()]
        advice = f"run `groundwork chaos stop --stack {self._run.stack}`"
        left = [f"the {active} was not undone; {advice}" for active in self._run.not_undone]
        self._run.left = [*self._run.left, *left]

    def _take(self, step: Step, total_seconds: float) -> bool:
        """Run one step. Return False if the run has to end."""
        self._wait_until(step.at)
        if reason := self._reason_to_end():
            self._run.skipped.append((step, reason))
            return False
        if self._now() + step.seconds > total_seconds:
            self._run.skipped.append((step, "no time was left"))
            return True
        try:
            service = self._target.server(step.target)
        except FaultImpossible as error:
            self._run.skipped.append((step, str(error)))
            return True
        self._cause(step, service)
        return True

    def _reason_to_end(self) -> str:
        """Return why no other fault may begin, or an empty text."""
        if self._journal.active():
            return "an earlier fault was not undone"
        if self._run.left:
            return "the servers have not recovered"
        return "the load has ended" if self._load is not None and self._load.is_over else ""

    def _cause(self, step: Step, service: str) -> None:
        outcome = FaultOutcome(step, service, self._now())
        self._run.faults.append(outcome)
        duration = f" for {step.seconds} s" if step.seconds else ""
        self._say(f"{outcome.began:5.0f} s  {step.fault} {outcome.server}{duration}")
        try:
            if step.fault == SWITCHOVER:
                self._target.switch_over(service)
                outcome.took_effect = True
            else:
                self._break(step, service, outcome)
        except (DockerError, OpsError) as error:
            outcome.problem = one_line(error)
            outcome.failed = not isinstance(error, FaultImpossible)
            self._say(f"{self._now():5.0f} s  {step.fault} {outcome.server} failed: {error}")
        finally:
            outcome.ended = self._now()
        self._run.left = self._wait_until_well()
        if self._run.left:
            self._say(f"{self._now():5.0f} s  not recovered: {'; '.join(self._run.left)}")
        else:
            outcome.recovered = self._now()
            self._say(f"{self._now():5.0f} s  every server works")

    def _break(self, step: Step, service: str, outcome: FaultOutcome) -> None:
        until = time.time() + step.seconds
        active = ActiveFault(
            secrets.token_hex(4), step.fault, service, self._target.container(service), until
        )
        self._journal.add(active)
        try:
            outcome.note = self._injector.cause(active, step.seconds)
            outcome.took_effect = True
            self._sleep_until(outcome.began + step.seconds)
        finally:
            stop = sys.exception()
            try:
                undo(self._journal, self._injector, active)
            except (DockerError, OpsError):
                # The journal keeps the fault, and the report names it.
                if isinstance(stop, KeyboardInterrupt):
                    raise stop from None
                raise

    def _wait_until_well(self) -> list[str]:
        """Wait until every server works. Return what still does not work after RECOVERY_SECONDS."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while (found := self._problems()) and time.monotonic() < deadline:
            time.sleep(_PROBE_SECONDS)
        return found

    def _problems(self) -> list[str]:
        """Return what is wrong with the servers now, also if Docker cannot say it. The next probe may work."""
        try:
            return self._target.problems()
        except DockerError as error:
            return [f"Docker: {one_line(error)}"]

    def _wait_until(self, at: float) -> None:
        """Sleep until a time of the run, unless it has to end."""
        if not self._reason_to_end():
            self._sleep_until(at)

    def _sleep_until(self, at: float) -> None:
        """Sleep until a time of the run, or until the load has ended."""
        while (left := at - self._now()) > 0:
            if self._load is not None and self._load.is_over:
                return
            time.sleep(min(left, _POLL_SECONDS))

    def _now(self) -> float:
        return time.monotonic() - self._began
