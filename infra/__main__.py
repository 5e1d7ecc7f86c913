"""The Pulumi program: wiring only. settings -> target -> exports.

A target's modules are imported when it is the stack's: neither waits for the other's provider.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pulumi

from db.errors import DbError
from infra.settings import AWS, StackSettings
from infra.spec.errors import InfraError
from infra.spec.world import PROJECT, World


def declare() -> None:
    """Declare the selected stack's resources and outputs."""
    world = World.here()
    stack = pulumi.get_stack()
    # The engine merges Pulumi.yaml's defaults and the stack's file, and hands all of it over as text.
    config = json.loads(os.environ.get("PULUMI_CONFIG", "{}"))
    settings = StackSettings.parse(
        {key: value for key, value in config.items() if key.startswith(f"{PROJECT}:")}
    )
    target = _on_aws if settings.target == AWS else _on_docker
    for name, value in target(world, stack, settings).items():
        pulumi.export(name, value)


def _on_docker(world: World, stack: str, settings: StackSettings) -> dict[str, pulumi.Input[Any]]:
    from infra.docker.leases import take_leases
    from infra.docker.leftovers import remove_leftovers
    from infra.docker.stack import DockerStack, metrics_are_kept
    from infra.rotation_file import read_rotation
    from infra.schema import announce_pending

    leases = take_leases(world, stack, settings)
    rotation = read_rotation(world, stack)
    for name, phase in rotation.phases().items():
        pulumi.log.info(
            f"rotation under way: {name} is {phase}; `groundwork rotate status` says how to go on"
        )
    announce_pending(world.root / settings.migrations_folder, world.name(stack, "postgres"))
    if not pulumi.runtime.is_dry_run():
        for name in remove_leftovers(world, stack):
            pulumi.log.info(f"removed {name}, which an interrupted run had left behind")
    has_metrics = metrics_are_kept(world, stack, monitoring=settings.monitoring)
    return DockerStack(world, stack, settings, leases, rotation, has_metrics=has_metrics).declare()


def _on_aws(world: World, stack: str, settings: StackSettings) -> dict[str, pulumi.Input[Any]]:
    from infra.aws.stack import AwsStack

    return AwsStack(world, stack, settings).declare()


try:
    declare()
except (InfraError, DbError) as error:
    # A known error is one line; anything else deserves its traceback.
    raise pulumi.RunError(str(error)) from None
