"""The environment of pip and uv when they install from a lock file with hashes. Uses the standard library only."""

from __future__ import annotations

import os

# Settings of pip that install into another folder.
ELSEWHERE = ("prefix", "python", "root", "target")
# These would install outside of the folder that is given, or change what is installed. Constraints have no hashes, so
# that pip refuses a lock with them.
_DROPPED = {
    *(f"PIP_{name.upper()}" for name in ELSEWHERE),
    *("PIP_BUILD_CONSTRAINT", "PIP_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_OVERRIDE"),
    *("PYTHONHOME", "PYTHONPATH"),
}


def pip_environment() -> dict[str, str]:
    """Return this process's environment, with the user's indexes, proxies and certificates, for pip or uv."""
    env = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    # Take precedence over a pip.conf. pip would ignore empty values.
    return env | {"PIP_USER": "0", "PIP_DRY_RUN": "0"}
