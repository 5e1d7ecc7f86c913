"""`groundwork up`, `preview`, `down`, `status`: a stack as a whole."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option

if TYPE_CHECKING:
    from ops.pulumi_stack import PulumiStack

_stack = stack_option()
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@_stack
def up(stack: str) -> None:
    """Bring a stack up, or up to date: toolchain, servers, roles, schema, access service.

    On AWS a preview comes first, and what breaks a rule (4) or would lose data (7) is refused.
    """
    from infra.spec.world import World
    from ops.backup.workbench import refuse_during_restore
    from ops.pulumi_stack import PulumiStack
    from ops.stack_status import next_steps
    from ops.toolchain.provision import ensure

    started = time.monotonic()
    world = World.here()
    target = PulumiStack(world, stack)
    is_here = _is_here(target)
    ensure(world, docker=is_here)
    if is_here:
        refuse_during_restore(world.name(stack, "")[:-1], stack)
    else:
        from ops.policy.guard import refuse_unsafe_up

        refuse_unsafe_up(target)
    target.up()
    print(next_steps(target.public_outputs(), stack, time.monotonic() - started))


@click.command()
@_stack
@click.option("--diff", is_flag=True, help="Show every property that changes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Pulumi's own JSON on standard output, unchanged resources too."
)
@click.option("--refresh", is_flag=True, help="Ask the target what there is, instead of believing the state.")
@click.option("--expect-no-changes", is_flag=True, help="Exit with 4 where `up` would change something.")
def preview(stack: str, diff: bool, as_json: bool, refresh: bool, expect_no_changes: bool) -> None:
    """Show what `up` would change, pending migrations by name; changes nothing.

    With --refresh --expect-no-changes it finds drift: what somebody changed past the program.
    """
    from infra.spec.world import World
    from ops.pulumi_stack import JSON_PREVIEW, PulumiStack
    from ops.toolchain.provision import ensure

    world = World.here()
    target = PulumiStack(world, stack)
    ensure(world, docker=_is_here(target))
    flags = [*(["--diff"] if diff else []), *(["--refresh"] if refresh else [])]
    target.preview(*flags, *(JSON_PREVIEW if as_json else ()), expect_no_changes=expect_no_changes)


@click.command()
@_stack
@click.option("--volumes", is_flag=True, help="Drop the data too.")
@_yes
def down(stack: str, volumes: bool, yes: bool) -> None:
    """Remove containers and network; data and secrets stay for the next `up` unless --volumes."""
    from infra.spec.world import World
    from ops.errors import Exit, OpsError
    from ops.pulumi_stack import PulumiStack
    from ops.toolchain.provision import ensure

    world = World.here()
    target = PulumiStack(world, stack)
    target.require_known()
    if not target.exists:
        print(f"stack {stack!r} is not up; nothing to do")
        return
    is_here = _is_here(target)
    if not is_here:
        _refuse_unsafe_teardown(target, stack, volumes=volumes)
    if volumes and not yes:
        if not sys.stdin.isatty():
            raise OpsError(
                f"--volumes drops every row of stack {stack!r} and its backups for good;"
                " without a terminal it needs --yes",
                Exit.REFUSED,
            )
        click.confirm(f"Drop every row of stack {stack!r}, and its backups, for good?", abort=True)
    from ops.backup.workbench import remove_all

    ensure(world, docker=is_here)
    if is_here:
        # What a killed restore or drill left holds the volumes.
        remove_all(world.name(stack, "")[:-1])
    target.down(volumes=volumes)
    kept = "its data and its backups are gone" if volumes else "its data is kept; `make up` brings it back"
    print(f"stack {stack!r} is down; {kept}")


@click.command()
@_stack
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output.")
def status(stack: str, as_json: bool) -> None:
    """Show a stack's containers, their health, ports and memory; exit 6 where one is not healthy or not there.

    Of a stack on AWS: its servers and tasks, as AWS tells.
    """
    from infra import outputs
    from infra.spec.world import World
    from ops import aws_status, stack_status
    from ops.pulumi_stack import PulumiStack

    target = PulumiStack(World.here(), stack)
    values = target.public_outputs() if target.exists else {}
    if values.get(outputs.TARGET) == "aws":
        rows, render = aws_status.server_rows(values, stack), aws_status.render
    else:
        rows, render = stack_status.container_rows(target.world, stack), stack_status.render
    if not rows:
        target.require_known()
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print(render(rows))
    stack_status.require_well(rows, stack)


def _is_here(target: PulumiStack) -> bool:
    """Whether the stack's target is this machine.

    Asked before the toolchain: a typing mistake in the settings must not wait for a build.
    """
    from infra.settings import DOCKER

    return target.check_settings().target == DOCKER


def _refuse_unsafe_teardown(target: PulumiStack, stack: str, *, volumes: bool) -> None:
    """On AWS there is no half of a stack to keep, and protection is taken off by the settings, not by a flag."""
    from ops.errors import Exit, OpsError

    if not volumes:
        raise OpsError(
            f"stack {stack!r} is on AWS, where what holds data cannot be kept without the rest; scale it down by"
            " its settings, or take all of it down with --volumes",
            Exit.REFUSED,
        )
    if target.check_settings().protect_data:
        raise OpsError(
            f"groundwork:protectData of stack {stack!r} is true; set it to false and run"
            f" `groundwork up --stack {stack}` first (docs/aws.md)",
            Exit.REFUSED,
        )
