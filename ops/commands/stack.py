"""`groundwork up`, `preview`, `down` and `status`: commands for a whole stack."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option
from ops.output import print_json, print_line, print_lines, print_message

if TYPE_CHECKING:
    from ops.stack.pulumi_stack import PulumiStack

_stack = stack_option()
_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation")


@click.command()
@_stack
@click.option("--refresh-images", is_flag=True, help="Rebuild the images with current Debian packages")
def up(stack: str, refresh_images: bool) -> None:
    """Create or update a stack

    Installs the toolchain, and creates or updates servers, roles, schema and access service. On AWS a preview runs
    first. An update that violates a policy rule (exit code 4) or would lose data (exit code 7) is refused.
    --refresh-images writes the time to groundwork:imageRefresh in the stack's file; commit that file.
    """
    from infra.spec.checkout import Checkout
    from ops.backup.workbench import refuse_during_restore
    from ops.stack.change_lock import changing
    from ops.stack.connections import describe_database
    from ops.stack.pulumi_stack import PulumiStack
    from ops.stack.stack_status import next_steps, old_packages
    from ops.toolchain.provision import ensure

    started = time.monotonic()
    checkout = Checkout.here()
    target = PulumiStack(checkout, stack)
    is_here = _is_here(target)
    # Check first, so that no toolchain is built for a stack that is refused.
    target.refuse_another_state()
    ensure(checkout, docker=is_here)
    with changing(checkout, stack, "up"):
        if is_here:
            refuse_during_restore(checkout, stack)
        else:
            from ops.policy.guard import refuse_unsafe_up

            target.refuse_pending_creates()
            refuse_unsafe_up(target)
        if refresh_images:
            print_message(target.refresh_images())
        print_line(f"database: {describe_database(stack, 'postgres and migrator')}", err=True)
        target.up()
    print_lines(next_steps(target.public_outputs(), stack, time.monotonic() - started))
    if is_here and (old := old_packages(checkout.name(stack, ""), time.time())):
        days = max(old.values())
        print_lines(
            [
                "",
                f"The Debian packages of {', '.join(old)} are up to {days} days old; security updates may be waiting.",
                f"Install them with `groundwork up --stack {stack} --refresh-images`.",
            ]
        )


@click.command()
@_stack
@click.option("--diff", is_flag=True, help="Show every property that changes")
@click.option("--json", "as_json", is_flag=True, help="Print Pulumi's JSON, including unchanged resources")
@click.option("--refresh", is_flag=True, help="Compare with the actual resources, not with the state")
@click.option("--expect-no-changes", is_flag=True, help="Exit with 4 if `up` would change something")
def preview(stack: str, diff: bool, as_json: bool, refresh: bool, expect_no_changes: bool) -> None:
    """Show what `up` would change

    Lists pending migrations by name, and changes nothing. --refresh --expect-no-changes detects drift, i.e. changes
    made outside the program.
    """
    from infra.spec.checkout import Checkout
    from ops.stack.pulumi_stack import JSON_PREVIEW, PulumiStack
    from ops.toolchain.provision import ensure

    checkout = Checkout.here()
    target = PulumiStack(checkout, stack)
    target.refuse_another_state()
    ensure(checkout, docker=_is_here(target))
    flags = [*(["--diff"] if diff else []), *(["--refresh"] if refresh else [])]
    target.preview(*flags, *(JSON_PREVIEW if as_json else ()), expect_no_changes=expect_no_changes)


@click.command()
@_stack
@click.option("--volumes", is_flag=True, help="Delete the data too")
@_yes
def down(stack: str, volumes: bool, yes: bool) -> None:
    """Remove a stack; its data stays unless --volumes is given

    Containers and network are removed. Data and secrets are kept for the next `up`.
    """
    from infra.spec.checkout import Checkout
    from ops.consent import ask
    from ops.stack.pulumi_stack import PulumiStack
    from ops.toolchain.provision import ensure

    checkout = Checkout.here()
    target = PulumiStack(checkout, stack)
    target.require_known()
    target.refuse_another_state()
    if not target.exists:
        print_line(f"stack {stack!r} is not up; nothing to do")
        return
    is_here = _is_here(target)
    _refuse_unsafe_teardown(target, stack, is_here=is_here, volumes=volumes)
    if volumes:
        ask(
            f"Permanently delete all data of stack {stack!r} and its backups?",
            yes=yes,
            refusal=f"--volumes permanently deletes all data of stack {stack!r} and its backups;"
            " without a terminal, pass --yes",
        )
    from ops.backup.site import excluding_backups
    from ops.backup.workbench import remove_all
    from ops.stack.change_lock import changing

    ensure(checkout, docker=is_here)
    backups = excluding_backups(checkout, stack) if is_here else nullcontext()
    with changing(checkout, stack, "down", removes_servers=True), backups:
        if is_here:
            # Leftover containers of a killed restore or drill still use the volumes.
            remove_all(checkout.name(stack, "")[:-1])
        else:
            # What only AWS knows would stay, and cost money.
            target.refuse_pending_creates()
        target.down(volumes=volumes)
    kept = f"its data is kept; `groundwork up --stack {stack}` starts it again"
    print_line(f"stack {stack!r} is down; {'its data and backups are deleted' if volumes else kept}")


@click.command()
@_stack
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def status(stack: str, as_json: bool) -> None:
    """Show containers with health, ports and memory, and the role of each replica

    For a stack on AWS: its servers and tasks. Exits with 6 if one is missing or not healthy.
    """
    from infra import outputs
    from infra.spec.checkout import Checkout
    from ops.backup.restore_record import RestoreRecord
    from ops.stack import aws_status, stack_status
    from ops.stack.pulumi_stack import PulumiStack

    target = PulumiStack(Checkout.here(), stack)
    values = target.public_outputs() if target.exists else {}
    on_aws = values.get(outputs.TARGET) == "aws"
    if on_aws:
        rows, render = aws_status.server_rows(values, stack), aws_status.render
    else:
        rows = stack_status.with_roles(stack_status.container_rows(target.checkout, stack))
        render = stack_status.render
    if not rows:
        target.require_known()
    if as_json:
        print_json(rows)
    elif rows:
        print_lines(render(rows))
    restore = RestoreRecord.of_stack(target.checkout, stack).unfinished(stack)
    stack_status.require_well(rows, stack, stack_status.needed_services(values), on_aws, restore)


def _is_here(target: PulumiStack) -> bool:
    """Return whether the stack's target is this machine.

    The settings are checked before the toolchain is built, so that a typing mistake is reported at once.
    """
    from infra.settings import DOCKER

    return target.check_settings().target == DOCKER


def _refuse_unsafe_teardown(target: PulumiStack, stack: str, *, is_here: bool, volumes: bool) -> None:
    """Raise OpsError (7) if `down` would keep half of a stack on AWS, or delete data that is protected."""
    from infra.checkpoint import protected_on_aws
    from ops.errors import Exit, OpsError

    if not is_here and not volumes:
        raise OpsError(
            f"stack {stack!r} is on AWS, where its data cannot be kept without its servers; reduce its size in"
            " the settings, or delete all of it with --volumes",
            Exit.REFUSED,
        )
    if volumes and target.check_settings().protect_data:
        first = "" if is_here else f", run `groundwork up --stack {stack}` (docs/aws.md)"
        raise OpsError(
            f"groundwork:protectData of stack {stack!r} is true, so its data is not deleted; set it to false in"
            f" Pulumi.{stack}.yaml{first} and run the same command again",
            Exit.REFUSED,
        )
    # The settings file may have changed since the last `up`, which asks for waivers.
    if volumes and (protected := protected_on_aws(target.resources())):
        raise OpsError(
            f"stack {stack!r} still protects {', '.join(protected)}; run `groundwork up --stack {stack}` first"
            " (docs/aws-operations.md#teardown)",
            Exit.REFUSED,
        )
