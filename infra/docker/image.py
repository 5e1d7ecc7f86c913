"""Images built from infra/images, named by the content of their context: an unchanged one is not rebuilt."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pulumi_docker as docker


def make_image(name: str, context: Path, digest: str, opts: pulumi.ResourceOptions) -> docker.RemoteImage:
    """Build `groundwork/NAME:DIGEST`; the image is kept on deletion, other checkouts may run it."""
    return docker.RemoteImage(
        f"{name}-image",
        name=f"groundwork/{name}:{digest[:16]}",
        build=docker.RemoteImageBuildArgs(
            context=str(context),
            dockerfile="Dockerfile",
            # Package mirrors are reached the way the host reaches them.
            network_mode="host",
            label={"groundwork.context": digest},
        ),
        triggers={"context": digest},
        keep_locally=True,
        opts=opts,
    )
