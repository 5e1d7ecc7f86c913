"""`groundwork adopt`: take over a stack whose Pulumi state is lost."""

from __future__ import annotations

import click

from ops.commands.names import stack_option
from ops.output import print_line, print_lines


@click.command()
@stack_option()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation")
@click.option("--confirm", "confirmed", metavar="NAME", help="Confirm a production-like NAME; use with --yes")
def adopt(stack: str, yes: bool, confirmed: str | None) -> None:
    """Take over a stack whose state folder is lost

    The data is kept. Containers and secrets are replaced. Backups are set aside, because they can only be
    decrypted with keys from the lost state. Exits with 7 if the owner's state exists, or if you may not see whether it
    does.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import require_consent
    from ops.servers.scratch_server import ensure_docker
    from ops.stack.adoption import Adoption
    from ops.stack.pulumi_stack import PulumiStack
    from ops.stack.stack_status import refuse_on_aws

    checkout = Checkout.here()
    PulumiStack(checkout, stack).require_known()
    refuse_on_aws(checkout, stack)
    ensure_docker()
    adoption = Adoption.of(checkout, stack)
    if adoption is None:
        print_line(f"stack {stack!r} has no resources of a lost state; nothing to do")
        return
    print_lines(adoption.as_lines(), err=True)
    require_consent(
        f"adopt the resources of stack {stack!r}, whose state is lost",
        yes=yes,
        confirmed=confirmed,
        names=(stack,),
    )
    aside = adoption.adopt(lambda line: print_line(line, err=True))
    print_line(f"stack {stack!r} now belongs to the state in {checkout.state_dir}")
    if aside is not None and adoption.repository is not None:
        print_line(f"the old backups are in folder {aside} of volume {adoption.repository.name}")
    print_line("Next:")
    print_line(f"  groundwork up --stack {stack}              # new passwords and certificates")
    print_line(f"  groundwork env --stack {stack}             # the connection strings with them")
    print_line(f"  groundwork backup --full --stack {stack}   # the first backup that this state can read")
