"""`groundwork report`: a page of plots of how a stack's servers fare; changes nothing but the file it writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

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
def report(path: Path | None, as_json: bool, seconds: float, interval: float, stack: str) -> None:
    """Sample a stack's servers, and draw hit rates, pool, statements, locks, memory and evictions.

    Ctrl-C ends the sampling early, and what there is is written. Exit code 6 where a server was not reached; the
    page is written all the same, unless none was.
    """
    from ops.errors import Exit, OpsError
    from ops.monitored_stack import MonitoredStack
    from ops.report import page, sampling, writing

    if path is None and not as_json:
        raise OpsError("say where to: --html FILE, or --json", Exit.USAGE)
    if path is not None:
        writing.check_target(path)
    done = sampling.sample_for(MonitoredStack.of(stack), seconds, interval, _progress)
    if path is not None:
        writing.write(path, page.render(done))
    if as_json:
        click.echo(json.dumps(writing.as_json(done, path), indent=2, default=str))
    elif path is not None:
        click.echo(f"{len(done.samples)} samples: {path}")
    for reason in done.unreached.values():
        click.echo(f"groundwork: {reason}", err=True)
    if done.unreached:
        sys.exit(Exit.UNREACHABLE)
    if done.was_stopped:
        sys.exit(130)


def _progress(count: int, left: float) -> None:
    if sys.stderr.isatty():
        click.echo(
            f"\r{count} samples, {left:.0f} s to go  " + ("\n" if left <= 0 else ""), err=True, nl=False
        )
    elif count == 1:
        click.echo(f"sampling for {left:.0f} s", err=True)
