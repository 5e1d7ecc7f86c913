"""Images built from infra/images. The tag is the digest of the build context, so an unchanged image is not rebuilt."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker

from infra.images.context import ImageContext


def make_image(context: ImageContext, opts: pulumi.ResourceOptions) -> docker.RemoteImage:
    """Build an image and tag it. Deleting the resource keeps the image, because other checkouts may use it."""
    return docker.RemoteImage(
        f"{context.image}-image",
        name=context.tag,
        build=docker.RemoteImageBuildArgs(
            context=str(context.folder),
            dockerfile="Dockerfile",
            # The build reaches package mirrors in the same way as the host does.
            network_mode="host",
            label={"groundwork.context": context.digest},
        ),
        triggers={"context": context.digest},
        keep_locally=True,
        opts=opts,
    )
