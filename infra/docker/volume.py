"""Named volumes: they outlive containers, and no careless change replaces one that holds data."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from infra.spec.world import World


def make_volume(
    world: World,
    stack: str,
    what: str,
    opts: pulumi.ResourceOptions,
    *,
    protect: bool = False,
) -> docker.Volume:
    """A local volume `gw-KEY-STACK-WHAT`.

    Docker cannot alter a volume, so any difference would mean delete and make anew: every input is ignored
    once the volume exists. `protect` refuses its deletion besides.
    """
    return docker.Volume(
        what,
        name=world.name(stack, what),
        driver="local",
        labels=[
            docker.VolumeLabelArgs(label=label, value=value) for label, value in world.labels(stack).items()
        ],
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                protect=protect,
                ignore_changes=["name", "driver", "driverOpts", "labels"],
            ),
        ),
    )
