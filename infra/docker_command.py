"""The docker command: its own configuration, which any target may read."""

from __future__ import annotations

import json
import os
from pathlib import Path


def docker_config() -> Path:
    """Return the folder of the docker command's configuration."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def read_object(path: Path) -> dict[str, object]:
    """Return the JSON object in a file, or an empty one if there is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
