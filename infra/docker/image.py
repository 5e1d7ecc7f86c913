"""Images built from infra/images. The tag is the digest of the build context, so an unchanged image is not rebuilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import inspect
from infra.dynamic import Provider
from infra.images.build import ensure
from infra.images.context import ImageContext


class ImageProvider(Provider):
    """Builds an image unless the engine already has its tag.

    Deleting the resource keeps the image, because other checkouts may use it.
    """

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Replace the resource if the tag differs. The containers are stopped only when the new image is complete."""
        changes = _olds.get("tag") != _news["tag"]
        return dynamic.DiffResult(
            changes=changes, replaces=["tag"] if changes else [], delete_before_replace=False
        )

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        context = ImageContext(props["image"], Path(props["folder"]), props["digest"], props["refresh"])
        return dynamic.CreateResult(id_=props["tag"], outs={**props, "image_id": ensure(context)})

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """Return an empty id if the image was removed, so that after `pulumi refresh` the next `up` builds it."""
        return dynamic.ReadResult(id_ if inspect("image", props["image_id"]) else "", dict(props))


class Image(dynamic.Resource, module="docker", name="Image"):
    """An image in the engine. `image_id` is its id there."""

    image_id: pulumi.Output[str]

    def __init__(self, context: ImageContext, opts: pulumi.ResourceOptions | None = None) -> None:
        props = {
            "image": context.image,
            "tag": context.tag,
            "digest": context.digest,
            "folder": str(context.folder),
            "refresh": context.refresh,
            "image_id": None,
        }
        super().__init__(ImageProvider(), f"{context.image}-image", props, opts)
