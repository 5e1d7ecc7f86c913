"""The file that stores a stack's rotation beside Pulumi's state. `rotate` writes it, and the program reads it.

It contains generation numbers and no secrets. If the file is lost, the output `rotation` of the last `up` is used.
"""

from __future__ import annotations

import json
from pathlib import Path

from infra import outputs
from infra.atomic_write import put
from infra.checkpoint import read_deployment, stack_outputs_of
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.rotation import Rotation
from infra.state_folder import Mark, make_private


def path_of(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "rotation.json"


def read_rotation(checkout: Checkout, stack: str) -> Rotation:
    """Read the requested rotation from the file or, without a file, the applied one from the stack's state.

    Raises InfraError if the content is damaged.
    """
    path = path_of(checkout, stack)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return applied_rotation(checkout, stack)
    except ValueError as error:
        raise InfraError(f"{path} is not valid JSON; restore it from a backup, or delete it") from error
    return Rotation.from_json(value, str(path))


def write_rotation(checkout: Checkout, stack: str, rotation: Rotation) -> None:
    """Write the file atomically and durably, so that a crash leaves either the old content or the new one."""
    path = path_of(checkout, stack)
    make_private(checkout, path.parent)
    put(path, f"{rotation}\n")


def forget_rotation(checkout: Checkout, stack: str) -> None:
    """Delete the files, when their stack is removed."""
    path_of(checkout, stack).unlink(missing_ok=True)
    applying(checkout, stack).remove()


def applying(checkout: Checkout, stack: str) -> Mark:
    """Return the mark that a rotation sets while it applies a step. A kill leaves it."""
    return Mark(checkout, stack, "rotation-applying")


def applied_rotation(checkout: Checkout, stack: str) -> Rotation:
    """Return the rotation that the last finished `up` applied. Only the local backend's state can be read."""
    try:
        deployment = read_deployment(checkout.state_file(stack))
    except FileNotFoundError:
        return Rotation()
    return Rotation.from_json(stack_outputs_of(deployment).get(outputs.ROTATION) or {}, "the stack's state")
