"""`groundwork cluster`: the Postgres servers of a stack with replicas."""

from __future__ import annotations

import time

import click

from infra.spec.postgres_cluster import MEMBERS
from ops.commands.names import stack_option
from ops.output import print_json, print_line, print_lines

_stack = stack_option()
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")


@click.group()
def cluster() -> None:
    """Show the Postgres servers of a stack with replicas, and move the primary

    docs/high-availability.md describes such stacks.
    """


@cluster.command()
@_stack
@_json
def status(stack: str, as_json: bool) -> None:
    """Show each server's role, state, timeline and lag

    Exits with 6 if one is missing or does not stream.
    """
    from infra.spec.checkout import Checkout
    from ops.errors import Exit, OpsError
    from ops.stack.cluster import Cluster, problems, render

    members = Cluster.of(Checkout.here(), stack).members()
    if as_json:
        print_json([member.as_json() for member in members])
    else:
        print_lines(render(members))
    if found := problems(members):
        raise OpsError(
            f"Postgres of stack {stack!r}: {'; '.join(found)}; see why with `groundwork logs --stack {stack}`",
            Exit.UNREACHABLE,
        )


@cluster.command()
@_stack
@click.option(
    "--to", "to", metavar="MEMBER", help=f"New primary: {', '.join(MEMBERS)} [default: synchronous replica]"
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation")
@click.option("--confirm", metavar="NAME", help="Name of a production stack, to confirm with --yes")
@_json
def switchover(stack: str, to: str | None, yes: bool, confirm: str | None, as_json: bool) -> None:
    """Move the primary to another server

    Writes wait for some seconds, and none that was acknowledged is lost.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import require_consent
    from ops.errors import Exit, OpsError
    from ops.stack.cluster import Cluster

    if to is not None and to not in MEMBERS:
        raise OpsError(f"unknown member {to!r}; choose one of {', '.join(MEMBERS)}", Exit.USAGE)
    target = Cluster.of(Checkout.here(), stack)
    what = f"move the primary of stack {stack!r} to {to or 'its synchronous replica'}"
    require_consent(what, yes=yes, confirmed=confirm, names=[stack])
    began = time.monotonic()
    old, new = target.switch_over(to, lambda line: print_line(line, err=True))
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json({"from": old, "to": new, "seconds": seconds})
    elif old == new:
        print_line(f"{new} is the primary already")
    else:
        print_line(f"{new} is the primary now; it was {old} ({seconds} s)")
