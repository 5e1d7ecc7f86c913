"""`groundwork policy`: a preview judged by the rules on AWS, and held against the loss of data."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option

if TYPE_CHECKING:
    from ops.policy.assessment import Assessment

_plan = click.option(
    "--plan", metavar="FILE", help="A preview as `groundwork preview --json` writes it; - is standard input."
)
_waivers = click.option(
    "--waivers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    show_default="infra/policy/waivers/STACK.yaml",
    help="What may pass, why, and until when.",
)
_sarif = click.option(
    "--sarif", type=click.Path(path_type=Path), metavar="FILE", help="Write the findings as SARIF 2.1.0 too."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")


def _preview_options(command: Callable[..., None]) -> Callable[..., None]:
    stack = stack_option("The stack to preview, where no plan is given.")
    return _plan(stack(_waivers(_sarif(_json(command)))))


@click.group()
def policy() -> None:
    """Judge a preview: what it would make of a stack on AWS, and what it would lose of any stack."""


@policy.command()
@_preview_options
def check(plan: str | None, stack: str, waivers: Path | None, sarif: Path | None, as_json: bool) -> None:
    """Hold the resources that a preview leads to against the rules; changes nothing.

    Exit codes: 0 every rule holds, 3 of some it shows only at `up`, 4 a rule does not hold.
    """
    from ops.policy.assessment import check_policy

    _report(check_policy, plan, stack, waivers, sarif, as_json)


@policy.command()
@_preview_options
def firewall(plan: str | None, stack: str, waivers: Path | None, sarif: Path | None, as_json: bool) -> None:
    """Refuse a preview that deletes what holds data, makes it anew, or takes its guards away; changes nothing.

    Exit codes: 0 nothing is lost, 7 refused.
    """
    from ops.policy.assessment import check_losses

    _report(check_losses, plan, stack, waivers, sarif, as_json)


@policy.command("list")
@_json
def list_(as_json: bool) -> None:
    """List the rules and the losses: id, severity, what is asked for."""
    from infra.policy.catalogue import CATALOGUE
    from ops.policy.text import catalogue_of

    if as_json:
        rows = [{"id": e.id, "severity": e.severity.value, "title": e.title, "fix": e.fix} for e in CATALOGUE]
        click.echo(json.dumps({"rules": rows}, indent=2))
        return
    for line in catalogue_of(CATALOGUE):
        click.echo(line)


def _report(
    judge: Callable[..., Assessment],
    plan_file: str | None,
    stack: str,
    waivers_file: Path | None,
    sarif_file: Path | None,
    as_json: bool,
) -> None:
    from infra.policy.waiver import today
    from ops import whole_file
    from ops.policy import source
    from ops.policy.assessment import FIREWALL
    from ops.policy.document import as_json as document_of
    from ops.policy.text import lines_of, notes_of, waiver_entries

    if sarif_file is not None:
        whole_file.check_target(sarif_file)
    plan = source.make_plan(stack) if plan_file is None else source.read_plan(plan_file)
    day = today()
    done = judge(plan, source.read_stack_waivers(plan.stack, waivers_file, day), day)
    if sarif_file is not None:
        from ops.policy.sarif import as_sarif

        whole_file.write(sarif_file, json.dumps(as_sarif(done), indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(document_of(done), indent=2))
    else:
        for line in lines_of(done):
            click.echo(line)
    for line in notes_of(done):
        click.echo(f"groundwork: {line}", err=True)
    if done.exit_code and done.kind == FIREWALL and not as_json:
        click.echo(
            f"groundwork: refused; to let it pass, infra/policy/waivers/{done.stack}.yaml takes", err=True
        )
        click.echo(waiver_entries(done, day), err=True)
    sys.exit(done.exit_code)
