"""Entry point of the Pulumi program: read the settings, declare the target's resources, export the outputs.

Only the selected target's modules are imported, so a stack does not load the other target's Pulumi provider.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pulumi

from db.errors import DbError
from infra.settings import AWS, StackSettings
from infra.spec.checkout import PROJECT, Checkout
from infra.spec.errors import InfraError


def declare() -> None:
    """Declare the selected stack's resources and outputs."""
    checkout = Checkout.here()
    stack = pulumi.get_stack()
    # The engine merges Pulumi.yaml's defaults with the stack's file and passes every value as text.
    config = json.loads(os.environ.get("PULUMI_CONFIG", "{}"))
    settings = StackSettings.parse(
        {key: value for key, value in config.items() if key.startswith(f"{PROJECT}:")}
    )
    target = _on_aws if settings.target == AWS else _on_docker
    for name, value in target(checkout, stack, settings).items():
        pulumi.export(name, value)


def _on_docker(checkout: Checkout, stack: str, settings: StackSettings) -> dict[str, pulumi.Input[Any]]:
    from infra.docker.engine import server
    from infra.docker.members import forget_retirement, observe, retire_replicas
    from infra.docker.network_leases import take_leases
    from infra.docker.ownership import remove_leftovers, require_own
    from infra.docker.postgres import DATA_VOLUME
    from infra.docker.postgres_cluster import shared_settings
    from infra.docker.redis_members import primary_of, redis_members, replication
    from infra.docker.stack import DockerStack, metrics_are_kept
    from infra.rotation_file import read_rotation
    from infra.schema import announce_first

    # Called first, so that an engine other than Docker's is refused before anything changes.
    server()
    if pulumi.runtime.is_dry_run():
        require_own(checkout, stack)
    else:
        for name in remove_leftovers(checkout, stack):
            pulumi.log.info(f"removed {name}, which an interrupted run had left behind")
    leases = take_leases(checkout, stack, settings)
    cluster = observe(
        checkout,
        stack,
        replicas=settings.postgres_replicas,
        subnet=leases.subnet,
        # A preview changes nothing.
        configuration=None if pulumi.runtime.is_dry_run() else json.dumps(shared_settings(settings)),
    )
    if not pulumi.runtime.is_dry_run():
        if settings.postgres_replicas:
            forget_retirement(checkout, stack)
        elif cluster.exists:
            for name in retire_replicas(checkout, stack):
                pulumi.log.info(f"stopped {name}, a replica; its data is deleted")
    rotation = read_rotation(checkout, stack)
    for name, phase in rotation.phases().items():
        pulumi.log.info(
            f"rotation in progress: {name} is {phase}; `groundwork rotate status --stack {stack}` shows the next step"
        )
    announce_first(
        checkout.root / settings.migrations_folder,
        volume=checkout.name(stack, DATA_VOLUME),
        container=checkout.name(stack, "postgres"),
    )
    has_metrics = metrics_are_kept(checkout, stack, monitoring=settings.monitoring)
    return DockerStack(
        checkout,
        stack,
        settings,
        leases,
        rotation,
        has_metrics=has_metrics,
        cluster=cluster,
        redis_primary=primary_of(replication(redis_members(checkout.name(stack, "redis")))),
    ).declare()


def _on_aws(checkout: Checkout, stack: str, settings: StackSettings) -> dict[str, pulumi.Input[Any]]:
    from infra.aws.stack import AwsStack

    return AwsStack(checkout, stack, settings).declare()


try:
    declare()
except (InfraError, DbError) as error:
    # A known error is reported in one line; any other error keeps its traceback.
    raise pulumi.RunError(str(error)) from None
