"""`groundwork chaos`: break a stack's servers under load, undo every fault, and report what clients saw."""

from __future__ import annotations

import re
import secrets
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ops.commands.names import stack_option
from ops.number_range import IntegerRange
from ops.output import print_json, print_line, print_lines

if TYPE_CHECKING:
    from infra.spec.checkout import Checkout
    from ops.chaos.outcome import Run
    from ops.chaos.plan import Step
    from ops.chaos.program_load import ProgramLoad

# The names of ops.chaos.plan, which a test compares.
FAULTS = ("kill", "freeze", "partition", "restart", "switchover", "fill", "slow")
SERVICES = ("postgres", "redis", "access")
LOADS = ("data-access", "none")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_SHORTEST, _LONGEST = 10, 4 * 3600


class Duration(click.ParamType[Any]):
    """A number of seconds, with a unit: 90s, 10m, 1h."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a duration; write it like 90s, 10m or 1h", param, ctx)
        seconds = int(found[1]) * _UNITS[found[2] or "s"]
        if not _SHORTEST <= seconds <= _LONGEST:
            self.fail(f"{value!r} is out of range; use 10s to 4h", param, ctx)
        return seconds


class NameList(click.ParamType[Any]):
    """Names from a list, separated by commas."""

    name = "names"

    def __init__(self, what: str, names: Sequence[str]) -> None:
        self._what, self._names = what, names

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        given = [name.strip() for name in str(value).split(",")]
        if "" in given:
            self.fail(f"{value!r} has an empty {self._what} beside a comma; remove the comma", param, ctx)
        for name in given:
            if name not in self._names:
                self.fail(f"unknown {self._what} {name!r}; choose from {', '.join(self._names)}", param, ctx)
        return tuple(name for name in self._names if name in given)


@click.group(invoke_without_command=True)
@stack_option()
@click.option(
    "--for", "total", type=Duration(), default="5m", show_default=True, help="How long, like 90s or 10m"
)
@click.option(
    "--faults", type=NameList("fault", FAULTS), metavar="LIST", help=f"Only these: {','.join(FAULTS)}"
)
@click.option("--services", type=NameList("service", SERVICES), metavar="LIST",
              help=f"Only these: {','.join(SERVICES)}")  # fmt: skip
@click.option("--seed", type=IntegerRange(0, 2**32 - 1), help="Seed of an earlier run, to repeat its plan")
@click.option("--load", default=LOADS[0], show_default=True, metavar="LOAD",
              help="data-access, none, or a command to run as the load")  # fmt: skip
@click.option("--strict", is_flag=True, help="Also fail if writes waited too long for a failover")
@click.option("--dry-run", is_flag=True, help="Print the plan, and change nothing")
@click.option(
    "--html", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write the report to FILE"
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as a JSON object")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation")
@click.pass_context
def chaos(
    context: click.Context,
    stack: str,
    total: int,
    faults: tuple[str, ...] | None,
    services: tuple[str, ...] | None,
    seed: int | None,
    load: str,
    strict: bool,
    dry_run: bool,
    path: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Break a stack's servers under load, and report the result

    Kills, freezes, cuts off, restarts and slows servers at random, one at a time, and undoes each fault. Works only on
    stacks with groundwork:allowChaos (docs/chaos.md). Exits with 1 if an acknowledged write was lost, a read was stale,
    the command of --load or a fault failed, or no fault took effect, and with 6 if a server did not recover or a fault
    was not undone. Ctrl-C ends the run early.
    """
    if context.invoked_subcommand is not None:
        return
    from infra.spec.checkout import Checkout
    from ops import atomic_write
    from ops.chaos.plan import make_plan
    from ops.chaos.target import require_allowed, topology_of
    from ops.consent import require_consent
    from ops.errors import Exit, OpsError
    from ops.stack.pulumi_stack import PulumiStack

    checkout = Checkout.here()
    settings = PulumiStack(checkout, stack).check_settings()
    require_allowed(settings, stack)
    if path is not None:
        atomic_write.check_target(path)
    seed = secrets.randbelow(2**32) if seed is None else seed
    steps = make_plan(seed, total, faults or FAULTS, topology_of(settings), services or SERVICES)
    if not steps:
        raise OpsError(
            f"none of these faults is possible on stack {stack!r} (switchover needs replicas, and access"
            " has no disk to fill); choose other --faults or --services, or a longer --for",
            Exit.USAGE,
        )
    if dry_run:
        _print_plan(steps, seed, as_json)
        return
    what = f"break the servers of stack {stack!r} for {total} s ({len(steps)} faults)"
    require_consent(what, yes=yes, confirmed=None, names=[stack])
    run = _run(checkout, stack, steps, total, seed, load, topology_of(settings).has_postgres_replicas)
    _report(run, strict, path, as_json)
    _exit(run, strict, _repeated(context, seed))


@chaos.command()
@stack_option()
def stop(stack: str) -> None:
    """Stop a run, and undo its faults

    Ends an active run with SIGTERM, and waits for it for up to 4 minutes. If a run was killed, undoes the faults that
    it left, and deletes the rows of its load. Starts containers that a fault has stopped.
    """
    import os
    import signal
    from contextlib import suppress

    from infra.spec.checkout import Checkout
    from ops.chaos.journal import Journal
    from ops.chaos.undo import LOCK_SECONDS, delete_left_rows, undo_all
    from ops.stack.connections import database_url
    from ops.stack.pulumi_stack import PulumiStack

    checkout = Checkout.here()
    PulumiStack(checkout, stack).require_known()
    journal = Journal(checkout, stack)
    if not journal.folder.exists():
        print_line(f"chaos has never run on stack {stack!r}; nothing to do")
        return
    if (holder := journal.holder()) is not None:
        # Another command, such as `up`, undoes faults and then does its own work.
        print_line(f"{'stopping' if holder.is_run else 'waiting for'} {holder}", err=True)
        if holder.is_run:
            # It may have ended meanwhile.
            with suppress(ProcessLookupError):
                os.kill(holder.process, signal.SIGTERM)
    with journal.lock("chaos stop", LOCK_SECONDS):
        undo_all(checkout, stack, print_line)
        if delete_left_rows(journal, lambda: database_url(role="app", stack=stack)):
            print_line("deleted the rows of the load")
    print_line(f"no fault is left on stack {stack!r}")


def _run(
    checkout: Checkout, stack: str, steps: list[Step], total: int, seed: int, load: str, has_replicas: bool
) -> Run:
    from ops.chaos.journal import RUN, Journal
    from ops.chaos.load import DataAccessLoad
    from ops.chaos.outcome import Run
    from ops.chaos.plan import PARTITION, SLOW
    from ops.chaos.run import Runner
    from ops.chaos.target import ChaosTarget, injector_of
    from ops.chaos.undo import delete_left_rows, undo_all
    from ops.chaos.watchdog import watched
    from ops.errors import Exit, OpsError
    from ops.stack.change_lock import changing
    from ops.stack.connections import environment_of

    journal = Journal(checkout, stack)
    environment = environment_of("app", stack)
    program = _program(load, environment)
    with changing(checkout, stack, "chaos"), journal.lock(RUN):
        undo_all(checkout, stack, _say)
        delete_left_rows(journal, lambda: environment["DATABASE_URL"])
        target = ChaosTarget.of(checkout, stack)
        if found := target.problems():
            raise OpsError(
                f"stack {stack!r} is not healthy, so no fault was caused: {'; '.join(found)}; see"
                f" `groundwork doctor --stack {stack}`",
                Exit.UNREACHABLE,
            )
        injector = injector_of(checkout, stack)
        if any(step.fault in (PARTITION, SLOW) for step in steps):
            # Built now, because a build would take up the time of the fault.
            injector.image()
        run = Run(stack, seed, time.time(), load, has_replicas)
        rows = None
        if load == LOADS[0]:
            rows = DataAccessLoad(environment, journal)
            run.load = rows.outcome
        _say(f"seed {seed}: {len(steps)} faults in {total} s")
        runner = Runner(run, target, injector, journal, rows or program, _say)
        try:
            with watched(checkout, stack):
                runner.run(steps, total)
            if rows is not None:
                try:
                    rows.verify()
                except OpsError as error:
                    run.left = [*run.left, str(error)]
        except KeyboardInterrupt:
            # After the faults, or for the second time. The report of what was done until then is still valid.
            run.was_stopped = True
        if program is not None:
            run.program_code = program.code
    return run


def _program(load: str, environment: dict[str, str]) -> ProgramLoad | None:
    if load in LOADS:
        return None
    from ops.chaos.program_load import ProgramLoad

    return ProgramLoad(load, environment)


def _print_plan(steps: list[Step], seed: int, as_json: bool) -> None:
    from ops.chaos.document import plan_text

    if as_json:
        print_json({"seed": seed, "steps": [step.as_json() for step in steps]})
    else:
        print_lines([f"seed {seed}", *plan_text(steps)])


def _report(run: Run, strict: bool, path: Path | None, as_json: bool) -> None:
    from ops import atomic_write
    from ops.chaos.document import document, text
    from ops.chaos.page import render

    # Printed first, so that the result is not lost if the file cannot be written.
    if as_json:
        print_json(document(run, strict=strict, path=path))
    else:
        print_lines(text(run))
    if path is not None:
        atomic_write.write(path, render(run, strict=strict))


def _repeated(context: click.Context, seed: int) -> str:
    """Return the command line that repeats a run: its seed, and what was given of the options that matter."""
    given = context.params
    values = {
        "--for": ("total", f"{given['total']}s"),
        "--faults": ("faults", ",".join(given["faults"] or ())),
        "--services": ("services", ",".join(given["services"] or ())),
        "--load": ("load", given["load"]),
    }
    words = ["groundwork", "chaos", "--stack", given["stack"], "--seed", str(seed)]
    for option, (name, value) in values.items():
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            words += [option, value]
    return shlex.join([*words, "--strict"] if given["strict"] else words)


def _exit(run: Run, strict: bool, repeated: str) -> None:
    from ops.errors import Exit, OpsError

    broken, unfinished = run.broken_promises(strict=strict), run.unfinished()
    found = [*broken, *unfinished, *run.failed_faults()]
    if unfinished:
        found.append(f"see `groundwork doctor --stack {run.stack}`")
    # The order of the exit codes is that of docs/chaos.md.
    if run.was_stopped and not (broken or run.not_undone or run.unchecked):
        if found:
            _say(f"groundwork: {'; '.join(found)}")
        sys.exit(130)
    if found:
        is_unreachable = run.not_undone or (unfinished and not broken)
        raise OpsError(
            f"{'; '.join(found)}; repeat the plan with `{repeated}`",
            Exit.UNREACHABLE if is_unreachable else Exit.ERROR,
        )


def _say(line: str) -> None:
    print_line(line, err=True)
