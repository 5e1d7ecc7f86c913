"""`groundwork shellenv`: the lines after which plain `pulumi` works in a shell."""

from __future__ import annotations

import os
import shlex

import click

from ops.commands.names import stack_option


@click.command()
@stack_option("The stack plain `pulumi` works on.")
def shellenv(stack: str) -> None:
    """Print POSIX export lines for plain `pulumi`: eval "$(.venv/bin/groundwork shellenv)"."""
    from infra.spec.world import World
    from ops.toolchain.pulumi_environment import DROPPED, variables
    from ops.toolchain.stack_init import ensure as ensure_stack

    world = World.here()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(world).items()]
    ensure_stack(world, stack)
    # Not `pulumi stack select`: whoever drives Pulumi in this checkout moves that selection.
    lines.append(f"export PULUMI_STACK={shlex.quote(stack)}")
    lines += [f"unset {name}" for name in DROPPED if name in os.environ and name != "PULUMI_STACK"]
    print("\n".join(lines))
