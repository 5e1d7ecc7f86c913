"""Named volumes. They outlive containers, and a changed input never replaces one."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from infra.docker import ownership
from infra.spec.checkout import Checkout


def make_volume(
    checkout: Checkout,
    stack: str,
    what: str,
    opts: pulumi.ResourceOptions,
    *,
    protect: bool = False,
) -> docker.Volume:
    """Create the local volume `gw-KEY-STACK-WHAT`. With `protect` Pulumi refuses to delete it.

    Docker cannot change a volume, so Pulumi would delete the volume and create another one for any changed input.
    Therefore changes of the inputs are ignored once the volume exists.
    """
    return docker.Volume(
        what,
        name=checkout.name(stack, what),
        driver="local",
        labels=[
            docker.VolumeLabelArgs(label=label, value=value)
            for label, value in ownership.labels(checkout, stack).items()
        ],
        opts=pulumi.ResourceOptions.merge(
            opts,
            pulumi.ResourceOptions(
                protect=protect,
                ignore_changes=["name", "driver", "driverOpts", "labels"],
            ),
        ),
    )
