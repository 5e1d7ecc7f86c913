"""`groundwork top`: show what a stack's servers are doing now; changes nothing."""

from __future__ import annotations

import shutil
import sys

import click

from ops.commands.names import stack_option
from ops.number_range import seconds
from ops.output import print_json, print_lines


@click.command()
@stack_option("Stack to watch")
@click.option(
    "--interval", default=1.0, show_default=True, type=seconds(0.5, 60), metavar="SECONDS",
    help="Time between two readings",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Read twice, print the result and exit, for scripts")
@click.option("--json", "as_json", is_flag=True, help="With --once: print a JSON object")
def top(stack: str, interval: float, once: bool, as_json: bool) -> None:
    """Show a stack's sessions, locks, statements, servers and hit rates, live

    Press ? for the keys and q to quit. A server that is down is shown as down until it answers again.

    --once reads every server twice, --interval apart, and prints the result. It exits with 6 if a server does not
    answer.
    """
    from ops.errors import Exit, OpsError

    if as_json and not once:
        raise OpsError("--json has no effect without --once; pass both", Exit.USAGE)
    if once:
        sys.exit(_print_once(stack, interval, as_json))
    from ops.servers.monitored_stack import MonitoredStack
    from ops.top.collector import Collector
    from ops.top.terminal import LiveView, require_terminal

    console = require_terminal()
    monitored = MonitoredStack.of(stack)
    view = LiveView(
        console,
        interval,
        lambda on_read: Collector(monitored, interval, wants_statements=False, on_read=on_read),
    )
    sys.exit(view.run())


def _print_once(stack: str, interval: float, as_json: bool) -> int:
    from ops.errors import Exit
    from ops.servers.monitored_stack import MonitoredStack
    from ops.top.collector import Collector
    from ops.top.snapshot import document

    collector = Collector(MonitoredStack.of(stack), interval, wants_statements=True)
    collector.read_twice()
    found = collector.snapshot()
    if as_json:
        print_json(document(found))
    else:
        from ops.top.frame import text

        print_lines(text(found, shutil.get_terminal_size((120, 24)).columns))
    return Exit.FINE if found.is_complete else Exit.UNREACHABLE
