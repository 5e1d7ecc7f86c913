"""Makes a stack known to the backend, so that there is one to work on, and its salt settled. Deploys nothing."""

from __future__ import annotations

import json

from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.toolchain import encryption_salt, process
from ops.toolchain.process import CommandFailed
from ops.toolchain.pulumi_environment import environment
from ops.toolchain.state_backend import StateBackend


def ensure(world: World, stack: str) -> None:
    """Create `stack` in the backend where it is not there yet. Raises OpsError (2) for one without settings."""
    settings = world.root / f"Pulumi.{stack}.yaml"
    if not settings.is_file():
        known = sorted(path.name.split(".")[1] for path in world.root.glob("Pulumi.*.yaml"))
        raise OpsError(
            f"there is no stack {stack!r} ({settings.name} is missing); there are: {', '.join(known)}",
            Exit.USAGE,
        )
    backend = StateBackend.of(world)
    local = world.state_file(stack)
    if local.exists() if backend.is_local else _is_listed(world, stack):
        # Cheap where all is well; a salt that Pulumi wrote since the last time is settled here.
        encryption_salt.ensure(world)
        return
    command = ["pulumi", "stack", "init", stack, "--no-select", "--non-interactive"]
    if backend.secrets_provider:
        command += ["--secrets-provider", backend.secrets_provider]
    try:
        process.run(command, env=environment(world), cwd=world.root, timeout_seconds=60)
    except CommandFailed as error:
        raise OpsError(f"the stack {stack!r} cannot be made: {error}") from error
    encryption_salt.ensure(world)


def _is_listed(world: World, stack: str) -> bool:
    """Whether a backend elsewhere has it. Making it to find out would ask for more than to read."""
    command = ["pulumi", "stack", "ls", "--json", "--non-interactive"]
    try:
        listed = process.run(command, env=environment(world), cwd=world.root, timeout_seconds=60)
        return any(each["name"].rpartition("/")[2] == stack for each in json.loads("\n".join(listed)))
    except CommandFailed as error:
        raise OpsError(f"the state of stack {stack!r} is not reached: {error}", Exit.UNREACHABLE) from error
