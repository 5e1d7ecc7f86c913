"""`groundwork doctor`: check a stack's servers and print advice for each finding; changes nothing."""

from __future__ import annotations

import json
import sys

import click

from ops.commands.names import stack_option


@click.command()
@stack_option("Stack to check")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Run only these checks (repeatable, or comma-separated)"
)
@click.option(
    "--skip", multiple=True, metavar="NAME", help="Skip these checks (repeatable, or comma-separated)"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def doctor(stack: str, only: tuple[str, ...], skip: tuple[str, ...], as_json: bool) -> None:
    """Check a stack's servers and advise on each finding

    Changes nothing. Exit codes: 0 if no check fails (warnings included), 4 if a check fails, 6 if a server cannot be
    reached.
    """
    import shutil

    from ops.doctor import rendering
    from ops.doctor.checks import CHECKS
    from ops.doctor.examination import Examination
    from ops.doctor.runner import choose, examine, exit_code
    from ops.servers.monitored_stack import MonitoredStack

    chosen = choose(CHECKS, _names(only), _names(skip))
    examination = Examination(MonitoredStack.of(stack))
    try:
        results = examine(examination, chosen, CHECKS)
    finally:
        examination.close()
    if as_json:
        click.echo(json.dumps(rendering.as_json(stack, results), indent=2))
    else:
        click.echo(rendering.as_text(stack, results, shutil.get_terminal_size((120, 24)).columns))
    sys.exit(exit_code(results))


def _names(given: tuple[str, ...]) -> list[str]:
    return [name.strip() for each in given for name in each.split(",") if name.strip()]
