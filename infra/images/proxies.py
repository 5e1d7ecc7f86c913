"""The HTTP proxies that apt needs in a build: those of the environment, or else those of this machine's apt.

Docker has predefined build arguments for proxies. A Dockerfile does not declare them, they are not in an image's
history, and they do not change which layers the engine reuses. A proxy's URL may contain a password. So the arguments
are passed without values, which docker takes from its environment, and errors are printed without passwords.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping

from infra.docker_command import docker_config, read_object

# apt reads only the names in lower case.
NAMES = ("http_proxy", "https_proxy", "no_proxy")
_APT_SETTINGS = {"http_proxy": "Acquire::http::Proxy", "https_proxy": "Acquire::https::Proxy"}
_APT_CONFIG_SECONDS = 20
_LOGIN = re.compile(r"://[^\s/:@]*:[^\s/@]*@")


def of_environment() -> dict[str, str]:
    """Return the proxies of this process's environment under the names that apt reads."""
    found = {name: os.environ.get(name) or os.environ.get(name.upper(), "") for name in NAMES}
    return {name: value for name, value in found.items() if value}


def build_environment() -> dict[str, str]:
    """Return the variables to add to the environment of a `docker build` with the arguments `build_arguments`.

    The result is empty if docker's own configuration has proxies, because docker then passes those.
    """
    if read_object(docker_config() / "config.json").get("proxies"):
        return {}
    found = of_environment()
    if found.keys() & _APT_SETTINGS.keys():
        return found
    of_apt = _of_apt()
    # The docker command must not use apt's proxies to reach a remote engine. It prefers the name in upper case.
    return found | of_apt | ({"NO_PROXY": "*"} if of_apt else {})


def build_arguments(environment: Mapping[str, str]) -> list[str]:
    """Return the options that pass the proxies of `environment` to a build."""
    return [f"--build-arg={name}" for name in NAMES if name in environment]


def without_logins(text: str, proxies: Iterable[str]) -> str:
    """Return the text without the logins of `proxies`, and without each `user:password@` of another URL."""
    for proxy in proxies:
        login, at, _ = proxy.partition("://")[2].rpartition("@") if "://" in proxy else proxy.rpartition("@")
        if at:
            text = text.replace(f"{login}@", "***@")
    return _LOGIN.sub("://***@", text)


def _of_apt() -> dict[str, str]:
    """Return the proxies of this machine's apt, or none if it has no apt."""
    command = ["apt-config", "shell"]
    for name, setting in _APT_SETTINGS.items():
        command += [name, setting]
    try:
        # Prints lines such as http_proxy='http://proxy:3128', and no line for a setting that does not exist.
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_APT_CONFIG_SECONDS
        )
        found = dict(word.split("=", 1) for word in shlex.split(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return {name: value for name, value in found.items() if value and value != "DIRECT"}
