"""The docker command: the environment that groundwork gives it, and its own configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path

# Added to the environment of commands that create, use or push images, or create containers.
DOCKER_OVERRIDES = {
    # The docker command would create them for the platform in the user's variable, but the images' wheels and the base
    # image are for the engine's own.
    "DOCKER_DEFAULT_PLATFORM": "",
    # It would accept signed images only. groundwork's are local, and the published base image is pinned by its digest.
    "DOCKER_CONTENT_TRUST": "0",
    # The user's 1 fails without the plugin buildx. With it, the docker command uses BuildKit anyway.
    "DOCKER_BUILDKIT": "",
}


def docker_config() -> Path:
    """Return the folder of the docker command's configuration. Without a home directory, it contains nothing."""
    try:
        return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    except RuntimeError:
        return Path(os.devnull)


def read_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a file, or an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
