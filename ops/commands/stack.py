"""`groundwork up`, `preview`, `down`, `status`: a stack as a whole."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option

if TYPE_CHECKING:
    from infra.settings import StackSettings
    from infra.spec.world import World

_stack = stack_option()
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@_stack
def up(stack: str) -> None:
    """Bring a stack up, or up to date: toolchain, servers, roles, schema, access service.

    On AWS a preview comes first, and what breaks a rule (4) or would lose data (7) is refused.
    """
    from infra.settings import AWS
    from infra.spec.world import World
    from ops.backup.workbench import refuse_during_restore
    from ops.pulumi_stack import PulumiStack
    from ops.stack_status import next_steps
    from ops.toolchain.provision import ensure

    started = time.monotonic()
    world = World.here()
    settings = _valid_settings(world, stack)
    ensure(world)
    refuse_during_restore(world.name(stack, "")[:-1], stack)
    target = PulumiStack(world, stack)
    if settings.target == AWS:
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
    _valid_settings(world, stack)
    ensure(world)
    flags = [*(["--diff"] if diff else []), *(["--refresh"] if refresh else [])]
    PulumiStack(world, stack).preview(
        *flags, *(JSON_PREVIEW if as_json else ()), expect_no_changes=expect_no_changes
    )


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
    if volumes and not yes:
        if not sys.stdin.isatty():
            raise OpsError(
                f"--volumes drops every row of stack {stack!r} and its backups for good;"
                " without a terminal it needs --yes",
                Exit.REFUSED,
            )
        click.confirm(f"Drop every row of stack {stack!r}, and its backups, for good?", abort=True)
    from ops.backup.workbench import remove_all

    ensure(world)
    # What a killed restore or drill left holds the volumes.
    remove_all(world.name(stack, "")[:-1])
    target.down(volumes=volumes)
    kept = "its data and its backups are gone" if volumes else "its data is kept; `make up` brings it back"
    print(f"stack {stack!r} is down; {kept}")


@click.command()
@_stack
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, on standard output.")
def status(stack: str, as_json: bool) -> None:
    """Show a stack's containers, their health, ports and memory; exit 6 where one is not healthy."""
    from infra.spec.world import World
    from ops.errors import Exit
    from ops.pulumi_stack import PulumiStack
    from ops.stack_status import container_rows, render

    rows = container_rows(World.here(), stack)
    if not rows:
        PulumiStack(World.here(), stack).require_known()
    print(json.dumps(rows, indent=2) if as_json else render(rows, stack))
    if not rows or any(row["health"] != "healthy" for row in rows):
        sys.exit(Exit.UNREACHABLE)


def _valid_settings(world: World, stack: str) -> StackSettings:
    """Before the toolchain: a typing mistake must not wait for a build."""
    from ops.pulumi_stack import PulumiStack

    return PulumiStack(world, stack).check_settings()
