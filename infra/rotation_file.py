"""The files that store a stack's rotation beside Pulumi's state: the requested one, and the progress of `rotate`.

They contain generation numbers and no secrets. The program reads the requested rotation. If that file is lost, the
output `rotation` of the last `up` is used.
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
from infra.state_folder import make_private


def path_of(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "rotation.json"


def read_rotation(checkout: Checkout, stack: str) -> Rotation:
    """Read the requested rotation from the file or, without a file, the applied one from the stack's state.

    Raises InfraError if the content is damaged.
    """
    try:
        return _read(path_of(checkout, stack))
    except FileNotFoundError:
        return applied_rotation(checkout, stack)


def write_rotation(checkout: Checkout, stack: str, rotation: Rotation) -> None:
    """Write the file atomically and durably, so that a crash leaves either the old content or the new one."""
    _write(checkout, path_of(checkout, stack), rotation)


def forget_rotation(checkout: Checkout, stack: str) -> None:
    """Delete the files, when their stack is removed."""
    path_of(checkout, stack).unlink(missing_ok=True)
    _progress_path(checkout, stack).unlink(missing_ok=True)


def read_progress(checkout: Checkout, stack: str) -> Rotation:
    """Return the last step of each secret whose rotation is not complete, including its final checks.

    `since` is when the step was applied, or None if its `up` has not ended. Raises InfraError as `read_rotation` does.
    """
    path = _progress_path(checkout, stack)
    try:
        # Earlier versions wrote an empty file.
        return _read(path) if path.stat().st_size else Rotation()
    except FileNotFoundError:
        return Rotation()


def write_progress(checkout: Checkout, stack: str, progress: Rotation) -> None:
    """Write what `read_progress` returns. Without a secret, delete the file."""
    path = _progress_path(checkout, stack)
    if progress.generations:
        _write(checkout, path, progress)
    else:
        path.unlink(missing_ok=True)


def applied_rotation(checkout: Checkout, stack: str) -> Rotation:
    """Return the rotation that the last finished `up` applied. Only the local backend's state can be read."""
    try:
        deployment = read_deployment(checkout.state_file(stack))
    except FileNotFoundError:
        return Rotation()
    return Rotation.from_json(stack_outputs_of(deployment).get(outputs.ROTATION) or {}, "the stack's state")


def _progress_path(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "rotation-applying"


def _read(path: Path) -> Rotation:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfraError(f"{path} is not valid JSON; restore it from a backup, or delete it") from error
    return Rotation.from_json(value, str(path))


def _write(checkout: Checkout, path: Path, rotation: Rotation) -> None:
    make_private(checkout, path.parent)
    put(path, f"{rotation}\n")
