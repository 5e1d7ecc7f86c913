"""The environment Pulumi runs in: PATH, home, backend, passphrase. Decides nothing and starts nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from infra.spec.world import World
from ops.toolchain import inventory, versions
from ops.toolchain.state_backend import StateBackend

# A passphrase in the environment would win over the checkout's own file and lock the user out of the stack;
# the stack a shell has chosen is not the one a command was told.
DROPPED = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK")


def variables(world: World) -> dict[str, str]:
    """The variables groundwork sets for Pulumi; PATH is complete. OpsError (3) before `ensure` ran."""
    choice = inventory.chosen(world)
    python = world.root / ".venv" / "bin"
    ours = {
        # The project names no virtualenv: Pulumi resolves that against one folder for the program and another
        # for dynamic providers. Both take the first python3 of PATH, which a CLI's own folder may hold too.
        "PATH": _path_with(python, Path(choice.pulumi).parent),
        "PULUMI_HOME": str(versions.pulumi_home(world)),
        "PULUMI_BACKEND_URL": StateBackend.of(world).url,
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(world.passphrase_file),
        # The salt is stripped from a stack's file on commit (docs/adr/0002): Pulumi finds it in the state.
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Both the language host and Pulumi's dynamic providers run this checkout's Python.
        "PULUMI_PYTHON_CMD": str(python / "python"),
    }
    if engine := _engine_of_context():
        ours["DOCKER_HOST"] = engine
    return ours


def environment(world: World) -> dict[str, str]:
    """A whole process environment to run Pulumi (or a program that drives it) with."""
    whole = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return whole | variables(world)


def _path_with(*first: Path) -> str:
    wanted = [str(folder) for folder in first]
    rest = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder not in wanted]
    return os.pathsep.join([*wanted, *rest])


def _engine_of_context() -> str | None:
    """The engine of the docker command's current context: Pulumi's provider reads DOCKER_HOST only."""
    if os.environ.get("DOCKER_HOST"):
        return None
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    name = os.environ.get("DOCKER_CONTEXT") or _read(folder / "config.json").get("currentContext")
    if not isinstance(name, str) or name in ("", "default"):
        return None
    for meta in folder.glob("contexts/meta/*/meta.json"):
        context = _read(meta)
        if context.get("Name") == name:
            endpoints = context.get("Endpoints")
            docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
            host = docker.get("Host") if isinstance(docker, dict) else None
            return host if isinstance(host, str) else None
    return None


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
