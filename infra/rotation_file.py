"""Where a stack's rotation is written down: a file beside Pulumi's state, that the program reads and `rotate` writes.

It holds numbers, no secrets. Where the file is lost, what the last `up` exported holds.
"""

from __future__ import annotations

import json
from pathlib import Path

from infra import outputs
from infra.spec.errors import InfraError
from infra.spec.rotation import Rotation
from infra.spec.world import World
from infra.whole_file import put


def path_of(world: World, stack: str) -> Path:
    return world.stack_dir(stack) / "rotation.json"


def read_rotation(world: World, stack: str) -> Rotation:
    """What is wanted: the file, or else what the stack's state says was applied. InfraError where it is damaged."""
    path = path_of(world, stack)
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return applied_rotation(world, stack)
    except ValueError as error:
        raise InfraError(f"{path} is not JSON; put it back from a backup, or remove it") from error
    return Rotation.from_json(value, str(path))


def write_rotation(world: World, stack: str, rotation: Rotation) -> None:
    """Write it down for good: whole or not at all, also when the machine stops."""
    path = path_of(world, stack)
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, f"{rotation}\n")


def forget_rotation(world: World, stack: str) -> None:
    """With its stack the rotation is gone."""
    path_of(world, stack).unlink(missing_ok=True)


def applied_rotation(world: World, stack: str) -> Rotation:
    """What the last finished `up` had; only the local backend's state is a file that can be read."""
    state_file = world.state_file(stack)
    try:
        latest = json.loads(state_file.read_text()).get("checkpoint", {}).get("latest") or {}
    except FileNotFoundError:
        return Rotation()
    for resource in latest.get("resources") or []:
        if resource["type"] == "pulumi:pulumi:Stack":
            return Rotation.from_json(
                (resource.get("outputs") or {}).get(outputs.ROTATION) or {}, "the stack's state"
            )
    return Rotation()
