"""`groundwork shellenv`: print the environment that plain `pulumi` needs."""

from __future__ import annotations

import os
import shlex

import click

from ops.commands.names import stack_option
from ops.output import print_exact


@click.command()
@stack_option("Stack that plain `pulumi` works on")
def shellenv(stack: str) -> None:
    """Print POSIX export lines for plain `pulumi`

    Usage: eval "$(.venv/bin/groundwork shellenv)".
    """
    from infra.spec.checkout import Checkout
    from ops.toolchain.pulumi_environment import dropped, variables
    from ops.toolchain.stack_init import ensure as ensure_stack

    checkout = Checkout.here()
    # Not `pulumi stack select`: other users of Pulumi in this checkout change that selection.
    exported = {**variables(checkout), "PULUMI_STACK": stack}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    ensure_stack(checkout, stack)
    lines += [f"unset {name}" for name in dropped() if name in os.environ and name not in exported]
    for line in lines:
        print_exact(line)
