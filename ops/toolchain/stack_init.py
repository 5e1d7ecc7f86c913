"""Create a stack in the backend if it does not exist, and settle its salt. Deploys nothing."""

from __future__ import annotations

import json
from contextlib import suppress

from infra.docker import ownership
from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError
from ops.toolchain import encryption_salt, process
from ops.toolchain.process import CommandFailed
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.state_backend import StateBackend


def ensure(checkout: Checkout, stack: str) -> None:
    """Create `stack` in the backend if it does not exist. Raise OpsError (2) for a stack without settings.

    Raises StateLost or OwnedByAnother (7) if Docker has resources of the stack: a new state would not know them.
    """
    settings = checkout.root / f"Pulumi.{stack}.yaml"
    if not settings.is_file():
        raise OpsError(
            f"unknown stack {stack!r} ({settings.name} is missing); stacks: {', '.join(checkout.stacks())}",
            Exit.USAGE,
        )
    backend = StateBackend.of(checkout)
    local = checkout.state_file(stack)
    if local.exists() if backend.is_local else _is_listed(checkout, stack):
        # Cheap if nothing has changed. Settles a salt that Pulumi has written since the last time.
        encryption_salt.ensure(checkout)
        return
    if backend.is_local:
        with suppress(DockerError):
            ownership.require_own(checkout, stack)
    command = ["pulumi", "stack", "init", stack, "--no-select", "--non-interactive"]
    if backend.secrets_provider:
        command += ["--secrets-provider", backend.secrets_provider]
    try:
        process.run(command, env=environment(checkout), cwd=checkout.root, timeout_seconds=60)
    except CommandFailed as error:
        raise OpsError(
            f"cannot create stack {stack!r}: {error}; fix that and run the same command again"
        ) from error
    encryption_salt.ensure(checkout)


def _is_listed(checkout: Checkout, stack: str) -> bool:
    """Return whether a remote backend has the stack. Listing needs fewer permissions than trying to create it."""
    command = ["pulumi", "stack", "ls", "--json", "--non-interactive"]
    try:
        listed = process.run(command, env=environment(checkout), cwd=checkout.root, timeout_seconds=60)
        return any(each["name"].rpartition("/")[2] == stack for each in json.loads("\n".join(listed)))
    except CommandFailed as error:
        raise OpsError(f"cannot read the state of stack {stack!r}: {error}", Exit.UNREACHABLE) from error
