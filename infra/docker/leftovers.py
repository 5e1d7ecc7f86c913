"""What a killed `up` left behind: containers and networks that carry a stack's labels and not its state.

Pulumi writes a resource down after it was made. Killed in between, the thing exists under a name that the
next `up` wants. Volumes are never touched here: making one that exists is no error to Docker.
"""

from __future__ import annotations

import json

from infra.docker.engine import docker
from infra.spec.world import World


def remove_leftovers(world: World, stack: str) -> list[str]:
    """Remove this stack's containers and networks that its state does not know; returns their names.

    Only for the local backend, whose state is a file that can be read; elsewhere nothing is removed.
    """
    state_file = world.state_file(stack)
    try:
        state = json.loads(state_file.read_text())
    except FileNotFoundError:
        return []
    resources = state.get("checkpoint", {}).get("latest", {}).get("resources") or []
    known = {resource.get("id") for resource in resources}
    filters = [f"--filter=label={label}={value}" for label, value in world.labels(stack).items()]
    removed = []
    for kind, columns in (
        ("container", "{{.ID}} {{.Names}}"),
        ("network", "{{.ID}} {{.Name}}"),
    ):
        every = ["--all"] if kind == "container" else []
        listed = docker(kind, "ls", *every, "--no-trunc", *filters, "--format", columns)
        for identity, name in (line.split(" ", 1) for line in listed.splitlines()):
            if identity not in known:
                docker(kind, "rm", *(["--force", "--volumes"] if kind == "container" else []), identity)
                removed.append(name)
    return removed
