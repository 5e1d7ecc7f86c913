"""The environment that Pulumi runs in: PATH, home, backend, passphrase. Starts nothing."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from infra.spec.checkout import Checkout
from infra.spec.variables import variable
from ops.toolchain import docker_engine, inventory, versions
from ops.toolchain.state_backend import StateBackend

# Pulumi would write the state under another name, such as dev.json.gz, and move dev.json away. With the last variable
# it would write no state before the end, so that a killed run would not record what it had created.
_STATE_FORMAT = (
    "PULUMI_DIY_BACKEND_GZIP",
    "PULUMI_DIY_BACKEND_ZSTD",
    "PULUMI_DIY_BACKEND_LEGACY_LAYOUT",
    # The names that these three had before.
    "PULUMI_SELF_MANAGED_STATE_GZIP",
    "PULUMI_SELF_MANAGED_STATE_ZSTD",
    "PULUMI_SELF_MANAGED_STATE_LEGACY_LAYOUT",
    "PULUMI_SKIP_CHECKPOINTS",
)
# A passphrase in the environment would override the checkout's own file, and a stack selected in a shell is not the
# one that a command was given. Unlike the docker command, Pulumi's provider prefers a context to DOCKER_HOST and does
# not know the context `default`, so that it only gets the engine's address. The docker command does not know the
# variables with certificates in them. With another PYTHONHOME, this checkout's Python does not start.
DROPPED = (
    *("PULUMI_CONFIG_PASSPHRASE", "PULUMI_STACK", "DOCKER_CONTEXT", *_STATE_FORMAT),
    *("DOCKER_CA_MATERIAL", "DOCKER_CERT_MATERIAL", "DOCKER_KEY_MATERIAL"),
    "PYTHONHOME",
)
# The rest of such a name is an option of Pulumi's commands, which would change what they do.
_OPTION = "PULUMI_OPTION_"
_TLS = ("DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_DEFAULT_ENGINE = "unix:///var/run/docker.sock"


def variables(checkout: Checkout) -> dict[str, str]:
    """Return the variables for Pulumi, with a complete PATH.

    Raises OpsError (3) before `ensure` has run, and NoEngineError for a context that Pulumi's provider cannot use.
    """
    choice = inventory.chosen(checkout)
    python = checkout.root / ".venv" / "bin"
    ours = {
        # The project has no virtualenv setting, because Pulumi resolves it against different folders for programs and
        # for dynamic providers. Both use the first python3 on PATH, and the CLI's folder may contain one too.
        "PATH": _path_with(python, Path(choice.pulumi).parent),
        "PULUMI_HOME": str(versions.pulumi_home(checkout)),
        "PULUMI_BACKEND_URL": StateBackend.of(checkout).url,
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(checkout.passphrase_file),
        # A stack's file has no salt after a commit (docs/adr/0002). Pulumi then finds it in the state.
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Pulumi's processes end within seconds. Fewer garbage collections save a fifth of the CLI's CPU time for about
        # 50 MB of memory.
        "GOGC": os.environ.get("GOGC", "400"),
        # Both the language host and Pulumi's dynamic providers run this checkout's Python.
        "PULUMI_PYTHON_CMD": str(python / "python"),
        # Pulumi needs both of a user that the system does not know, as in a container started with a numeric id.
        "USER": os.environ.get("USER") or _user(),
        "HOME": os.environ.get("HOME") or str(versions.pulumi_home(checkout)),
    }
    return ours | _engine()


def dropped() -> tuple[str, ...]:
    """Return the variables that `environment` removes from this process's. `variables` may set them again."""
    options = (name for name in os.environ if name.startswith(_OPTION))
    return (*DROPPED, *options, *(() if _uses_tls() else _TLS))


def environment(checkout: Checkout) -> dict[str, str]:
    """Return a complete environment for Pulumi, or for a program that runs Pulumi."""
    removed = dropped()
    whole = {name: value for name, value in os.environ.items() if name not in removed}
    # The modules of the user's folders could replace groundwork's. Not in `variables`: in the shell of a user, other
    # checkouts would import this one's modules.
    return whole | variables(checkout) | {"PYTHONPATH": str(checkout.root)}


def _path_with(*first: Path) -> str:
    wanted = [str(folder) for folder in first]
    rest = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder not in wanted]
    return os.pathsep.join([*wanted, *rest])


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _uses_tls() -> bool:
    """Return whether the docker command applies the variables of TLS. Pulumi's provider always would."""
    is_on = any(os.environ.get(name) for name in ("DOCKER_TLS", "DOCKER_TLS_VERIFY"))
    host = variable("DOCKER_HOST") or ""
    return (
        is_on and docker_engine.selected_endpoint() is None and not host.startswith(docker_engine.WITHOUT_TLS)
    )


def _engine() -> dict[str, str]:
    """Return the variables of the selected context's engine, because Pulumi's provider reads only these."""
    endpoint = docker_engine.selected_endpoint()
    if endpoint is None:
        is_default = docker_engine.selected() is None and os.environ.get("DOCKER_CONTEXT") == "default"
        return {"DOCKER_HOST": _DEFAULT_ENGINE} if is_default else {}
    if endpoint.certificates is None:
        return {"DOCKER_HOST": endpoint.host}
    return {
        "DOCKER_HOST": endpoint.host,
        "DOCKER_CERT_PATH": str(endpoint.certificates),
        "DOCKER_TLS_VERIFY": "1",
    }
