"""`groundwork report`: plot a stack's servers as an HTML page, or write the comment for a pull request.

It changes nothing except the file it writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ops.commands.names import stack_option
from ops.number_range import seconds
from ops.output import print_json, print_line, print_lines, redraw


@click.command()
@click.option(
    "--html", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write the page to FILE"
)
@click.option("--json", "as_json", is_flag=True, help="Print the data of the page as a JSON object")
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=seconds(0.1, 86_400),
    help="How long to sample",
)
@click.option(
    "--interval", default=1.0, show_default=True, type=seconds(0.1, 3600), metavar="SECONDS",
    help="Time between samples",
)  # fmt: skip
@stack_option("Stack to sample")
@click.option("--markdown", metavar="FILE", help="Write a pull request comment; - is standard output")
@click.option(
    "--preview",
    "previews",
    multiple=True,
    metavar="STACK=FILE",
    help="With --markdown: output of `preview --json` of a stack",
)
@click.option(
    "--findings",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --markdown: JSON of `policy check` or `policy firewall`",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --markdown: output of `migrate plan --json`",
)
@click.option(
    "--require-checks",
    is_flag=True,
    help="With --markdown: exit with 1 if a check has no file",
)
@click.pass_context
def report(
    context: click.Context,
    path: Path | None,
    as_json: bool,
    seconds: float,
    interval: float,
    stack: str,
    markdown: str | None,
    previews: tuple[str, ...],
    findings: tuple[Path, ...],
    plan: Path | None,
    require_checks: bool,
) -> None:
    """Plot a stack's servers, or comment on a pull request

    Samples hit rates, pool, statements, locks, memory and evictions. Ctrl-C ends the sampling early; the samples so
    far are written. Exits with 6 if a server cannot be reached; the page is written anyway unless none was reached.

    With --markdown the command connects to no server. It reads the given files and writes one comment for a pull
    request: what changes in each stack, which rules are violated, which data would be lost, and what pending
    migrations lock. The comment is written for every exit code: 7 if data would be lost, 4 if a rule is violated,
    1 if a preview failed. With --require-checks, also 1 if a successful preview lacks findings of `policy check` or
    `policy firewall`, or if the plan is missing.
    """
    from ops.errors import Exit

    if markdown is not None:
        _refuse(context, ("path", "as_json", "seconds", "interval", "stack"), "with --markdown")
        sys.exit(_comment(markdown, previews, findings, plan, require_checks))
    _refuse(context, ("previews", "findings", "plan", "require_checks"), "without --markdown")
    code = _sample(path, as_json, seconds, interval, stack)
    if code != Exit.FINE:
        sys.exit(code)


def _comment(
    markdown: str,
    previews: tuple[str, ...],
    findings: tuple[Path, ...],
    plan: Path | None,
    require_checks: bool,
) -> int:
    from ops import atomic_write
    from ops.errors import Exit, OpsError
    from ops.pull_request.comment import as_comment
    from ops.pull_request.source import read_report

    if not (previews or findings or plan):
        raise OpsError(
            "--markdown needs input: pass --preview STACK=FILE, --findings FILE or --plan FILE", Exit.USAGE
        )
    target = None if markdown == "-" else Path(markdown)
    if target is not None:
        atomic_write.check_target(target)
    done = read_report(previews, findings, plan, requires_checks=require_checks)
    if target is None:
        print_lines(as_comment(done).removesuffix("\n").split("\n"))
    else:
        atomic_write.write(target, as_comment(done))
    return done.exit_code


def _refuse(context: click.Context, parameters: tuple[str, ...], when: str) -> None:
    """Raise OpsError (2) for an option that would have no effect."""
    from ops.errors import Exit, OpsError

    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not ParameterSource.DEFAULT:
            raise OpsError(f"{parameter.opts[0]} has no effect {when}", Exit.USAGE)


def _sample(path: Path | None, as_json: bool, seconds: float, interval: float, stack: str) -> int:
    from ops import atomic_write
    from ops.errors import Exit, OpsError
    from ops.report import page, sampling
    from ops.report.document import document
    from ops.servers.monitored_stack import MonitoredStack

    if path is None and not as_json:
        raise OpsError("no output is selected; pass --html FILE or --json", Exit.USAGE)
    if path is not None:
        atomic_write.check_target(path)
    if not sys.stderr.isatty():
        print_line(f"sampling for {seconds:g} s", err=True)
    done = sampling.sample_for(MonitoredStack.of(stack), seconds, interval, _progress)
    if path is not None:
        # The page contains statements, so that only its owner may read it.
        atomic_write.write(path, page.render(done), is_private=True)
    if as_json:
        print_json(document(done, path))
    elif path is not None:
        print_line(f"{len(done.samples)} samples: {path}")
    for reason in done.unreached.values():
        print_line(f"groundwork: {reason}", err=True)
    if done.unreached:
        return Exit.UNREACHABLE
    return 130 if done.was_stopped else Exit.FINE


def _progress(count: int, left: float) -> None:
    if sys.stderr.isatty():
        redraw(f"{count} samples, {left:.0f} s left")
        if left <= 0:
            print_line(err=True)
