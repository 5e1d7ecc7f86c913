"""`groundwork doctor`: check a stack's servers and print advice for each finding; changes nothing."""

from __future__ import annotations

import sys

import click

from ops.commands.names import stack_option
from ops.output import print_json, print_line


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

    chosen = choose(CHECKS, _names("--only", only), _names("--skip", skip))
    examination = Examination(MonitoredStack.of(stack))
    try:
        results = examine(examination, chosen, CHECKS)
    finally:
        examination.close()
    if as_json:
        print_json(rendering.as_json(stack, results))
    else:
        for line in rendering.as_lines(stack, results, shutil.get_terminal_size((120, 24)).columns):
            print_line(line.text, label=line.label, colour=line.colour)
    sys.exit(exit_code(results))


def _names(option: str, given: tuple[str, ...]) -> list[str]:
    """Return the names of a repeatable list. Raise OpsError (2) for an empty one, which would select every check."""
    from ops.errors import Exit, OpsError

    names = [name.strip() for each in given for name in each.split(",")]
    if "" in names:
        raise OpsError(f"{option} has an empty name beside a comma; remove the comma", Exit.USAGE)
    return names
