"""The Docker objects in a stack's state, and those of them that Docker no longer has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.docker.engine import inspect
from infra.settings.shared import TOKEN_KEY

CONTAINER = "docker:index/container:Container"
NETWORK = "pulumi-python:dynamic/docker:Network"
_VOLUME = "docker:index/volume:Volume"
_PASSWORD = "pulumi-python:dynamic:Resource"
_IMAGE = "pulumi-python:dynamic/docker:Image"


@dataclass(frozen=True)
class Recorded:
    """The resources of a state. Each object that Docker lacks was removed outside of Pulumi."""

    resources: Sequence[Mapping[str, Any]]

    def containers(self) -> list[str]:
        """Return the ids of the containers."""
        return self._ids(CONTAINER)

    def lacks_a_container(self) -> bool:
        """Return whether a container was removed: by hand, or by a killed `down`."""
        return _lacks("container", self.containers())

    def is_incomplete(self) -> bool:
        """Return whether a container, network or image was removed. Without an image, no container can be created."""
        images = [each.get("outputs") or {} for each in self._of(_IMAGE)]
        image_ids = sorted({str(each["image_id"]) for each in images if "image_id" in each})
        return self.lacks_a_container() or _lacks("network", self._ids(NETWORK)) or _lacks("image", image_ids)

    def lost_volumes(self) -> list[str]:
        """Return the volumes that were removed. Docker would create unlabelled ones."""
        known = self._ids(_VOLUME)
        found = {each["Name"] for each in inspect("volume", *known)}
        return [volume for volume in known if volume not in found]

    def token_keys(self) -> set[str]:
        """Return the ids of the keys for users' tokens."""
        names = (str(each["urn"]).rpartition("::")[2] for each in self._of(_PASSWORD))
        return {name.removeprefix(TOKEN_KEY) for name in names if name.startswith(TOKEN_KEY)}

    def _ids(self, kind: str) -> list[str]:
        return [each["id"] for each in self._of(kind) if "id" in each]

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [each for each in self.resources if each["type"] == kind]


def _lacks(kind: str, known: Sequence[str]) -> bool:
    return len(inspect(kind, *known)) < len(known)
