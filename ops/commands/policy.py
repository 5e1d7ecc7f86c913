"""`groundwork policy`: check a preview against AWS rules and data-loss guards."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.commands.names import is_stack_given, stack_option
from ops.output import print_json, print_line, print_lines

if TYPE_CHECKING:
    from ops.policy.assessment import Assessment

_plan = click.option(
    "--plan", metavar="FILE", help="Output of `groundwork preview --json`; - is standard input"
)
_waivers = click.option(
    "--waivers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    show_default="infra/policy/waivers/STACK.yaml",
    help="Waivers: what may pass, why, and until when",
)
_sarif = click.option(
    "--sarif", type=click.Path(path_type=Path), metavar="FILE", help="Also write the findings as SARIF 2.1.0"
)
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")


def _preview_options(command: Callable[..., None]) -> Callable[..., None]:
    stack = stack_option("Stack to preview if no plan is given")
    return _plan(stack(_waivers(_sarif(_json(command)))))


@click.group()
def policy() -> None:
    """Check a preview against AWS rules and data-loss guards"""


@policy.command()
@_preview_options
def check(plan: str | None, stack: str, waivers: Path | None, sarif: Path | None, as_json: bool) -> None:
    """Check a preview's resources against the rules

    Changes nothing. Exit codes: 0 if all rules are satisfied, 3 if some can only be checked during `up`, 4 if a rule
    is violated.
    """
    from ops.policy.assessment import check_policy

    _report(check_policy, plan, stack, waivers_file=waivers, sarif_file=sarif, as_json=as_json)


@policy.command("firewall")
@_preview_options
def data_loss_guard(
    plan: str | None, stack: str, waivers: Path | None, sarif: Path | None, as_json: bool
) -> None:
    """Refuse a preview that would lose data

    Refused are deleting or replacing a resource that holds data, and removing its protection. Changes nothing. Exit
    codes: 0 if no data is lost, 7 if refused.
    """
    from ops.policy.assessment import check_losses

    _report(check_losses, plan, stack, waivers_file=waivers, sarif_file=sarif, as_json=as_json)


@policy.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the rules and the data-loss guards"""
    from infra.policy.rules import CATALOGUE
    from ops.policy.text import catalogue_of

    if as_json:
        rows = [{"id": e.id, "severity": e.severity.value, "title": e.title, "fix": e.fix} for e in CATALOGUE]
        print_json({"rules": rows})
        return
    for line in catalogue_of(CATALOGUE):
        print_line(line)


def _report(
    judge: Callable[..., Assessment],
    plan_file: str | None,
    stack: str,
    *,
    waivers_file: Path | None,
    sarif_file: Path | None,
    as_json: bool,
) -> None:
    from infra.policy.waiver import today
    from ops import atomic_write
    from ops.errors import Exit, OpsError
    from ops.policy import source
    from ops.policy.assessment import DATA_LOSS
    from ops.policy.document import as_json as document_of
    from ops.policy.text import lines_of, notes_of, waiver_entries

    if sarif_file is not None:
        atomic_write.check_target(sarif_file)
    plan = source.make_plan(stack) if plan_file is None else source.read_plan(plan_file)
    # Its waivers would be another stack's.
    if is_stack_given() and stack != plan.stack:
        raise OpsError(f"the preview in {plan_file} is of stack {plan.stack!r}, not of {stack!r}", Exit.USAGE)
    day = today()
    done = judge(plan, source.read_stack_waivers(plan.stack, waivers_file, day), day)
    if sarif_file is not None:
        from ops.policy.sarif import as_sarif

        atomic_write.write(sarif_file, json.dumps(as_sarif(done), indent=2) + "\n")
    if as_json:
        print_json(document_of(done))
    else:
        for line in lines_of(done):
            print_line(line)
    for line in notes_of(done):
        print_line(f"groundwork: {line}", err=True)
    if done.exit_code and done.kind == DATA_LOSS and not as_json:
        print_line(
            f"groundwork: refused; to allow it, add to infra/policy/waivers/{done.stack}.yaml:", err=True
        )
        print_lines(waiver_entries(done, day), err=True)
    sys.exit(done.exit_code)
