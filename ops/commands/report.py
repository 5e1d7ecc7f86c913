"""`groundwork report`: a page of plots of how a stack's servers fare, or a pull request's comment on what would change.

Changes nothing but the file it writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ops.commands.names import stack_option


@click.command()
@click.option("--html", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write the page here.")
@click.option("--json", "as_json", is_flag=True, help="Print what the page shows as a JSON object.")
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 86_400),
    help="How long to sample.",
)
@click.option(
    "--interval", default=1.0, show_default=True, type=click.FloatRange(0.1, 3600), metavar="SECONDS",
    help="From one sample to the next.",
)  # fmt: skip
@stack_option("The stack to look at.")
@click.option("--markdown", metavar="FILE", help="Write a pull request's comment here; - is standard output.")
@click.option(
    "--preview",
    "previews",
    multiple=True,
    metavar="STACK=FILE",
    help="With --markdown: what `preview --json` wrote of a stack.",
)
@click.option(
    "--findings",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --markdown: what `policy check --json` or `policy firewall --json` wrote of a stack.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --markdown: what `migrate plan --json` wrote.",
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
) -> None:
    """Sample a stack's servers, and draw hit rates, pool, statements, locks, memory and evictions.

    Ctrl-C ends the sampling early, and what there is is written. Exit code 6 where a server was not reached; the
    page is written all the same, unless none was.

    With --markdown it asks nobody, and writes one comment for a pull request from the files that are given: what
    changes in each stack, what its rules and its data say to that, and what pending migrations lock. Exit codes: 7
    data would be lost, 4 a rule does not hold, 1 a preview failed; the comment is written all the same.
    """
    from ops.errors import Exit

    if markdown is not None:
        _refuse(context, ("path", "as_json", "seconds", "interval", "stack"), "with --markdown")
        sys.exit(_comment(markdown, previews, findings, plan))
    _refuse(context, ("previews", "findings", "plan"), "without --markdown")
    code = _sample(path, as_json, seconds, interval, stack)
    if code != Exit.FINE:
        sys.exit(code)


def _comment(markdown: str, previews: tuple[str, ...], findings: tuple[Path, ...], plan: Path | None) -> int:
    from ops import whole_file
    from ops.errors import Exit, OpsError
    from ops.pull_request.comment import as_comment
    from ops.pull_request.source import read_report

    if not (previews or findings or plan):
        raise OpsError("say what of: --preview STACK=FILE, --findings FILE, --plan FILE", Exit.USAGE)
    target = None if markdown == "-" else Path(markdown)
    if target is not None:
        whole_file.check_target(target)
    done = read_report(previews, findings, plan)
    if target is None:
        click.echo(as_comment(done), nl=False)
    else:
        whole_file.write(target, as_comment(done))
    return done.exit_code


def _refuse(context: click.Context, parameters: tuple[str, ...], when: str) -> None:
    """OpsError (2) for an option that would have no effect."""
    from ops.errors import Exit, OpsError

    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in parameters and source is not ParameterSource.DEFAULT:
            raise OpsError(f"{parameter.opts[0]} has no effect {when}", Exit.USAGE)


def _sample(path: Path | None, as_json: bool, seconds: float, interval: float, stack: str) -> int:
    from ops import whole_file
    from ops.errors import Exit, OpsError
    from ops.monitored_stack import MonitoredStack
    from ops.report import page, sampling
    from ops.report.document import document

    if path is None and not as_json:
        raise OpsError("say where to: --html FILE, or --json", Exit.USAGE)
    if path is not None:
        whole_file.check_target(path)
    done = sampling.sample_for(MonitoredStack.of(stack), seconds, interval, _progress)
    if path is not None:
        # Statements are in it.
        whole_file.write(path, page.render(done), is_private=True)
    if as_json:
        click.echo(json.dumps(document(done, path), indent=2, default=str))
    elif path is not None:
        click.echo(f"{len(done.samples)} samples: {path}")
    for reason in done.unreached.values():
        click.echo(f"groundwork: {reason}", err=True)
    if done.unreached:
        return Exit.UNREACHABLE
    return 130 if done.was_stopped else Exit.FINE


def _progress(count: int, left: float) -> None:
    if sys.stderr.isatty():
        click.echo(
            f"\r{count} samples, {left:.0f} s to go  " + ("\n" if left <= 0 else ""), err=True, nl=False
        )
    elif count == 1:
        click.echo(f"sampling for {left:.0f} s", err=True)
