"""The last step of `up`: every container of the stack has to be healthy.

Pulumi waits only for the containers that it creates. One that was unchanged may have failed since the last `up`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence

from infra.docker.engine import DockerError, inspect
from infra.docker.health_check import health, last_lines_of_log, wait_until_healthy
from ops.errors import OpsError

# A failover takes 30 s, and Docker waits up to 60 s before it starts a container again that exits each time.
_WAIT_SECONDS = 120.0
# After that time, each of the others gets one more check.
_LEAST_SECONDS = 1.0
_LOG_LINES = 5


def require_healthy(stack: str, containers: Sequence[str], say: Callable[[str], None]) -> None:
    """Wait until the containers, given by id, are healthy: two minutes for all of them.

    Raises OpsError that names each container that is not. The reason and the last lines of its log are printed first.
    """
    found = inspect("container", *containers)
    healthy = {each["Id"] for each in found if health(each) == "healthy"}
    names = {each["Id"]: each["Name"].lstrip("/") for each in found}
    deadline = time.monotonic() + _WAIT_SECONDS
    failed = []
    for container in containers:
        if container in healthy:
            continue
        name = names.get(container, container[:12])
        say(f"waiting for {name} to become healthy")
        try:
            wait_until_healthy(container, max(deadline - time.monotonic(), _LEAST_SECONDS))
        except DockerError as error:
            failed.append(name)
            say(str(error))
            for line in _log_of(container):
                say(f"    {line}")
    if failed:
        raise OpsError(
            f"stack {stack!r} is not up: {', '.join(failed)} {'is' if len(failed) == 1 else 'are'} not healthy (the"
            " reasons are above); existing data is kept; fix the cause and run the same command again to resume"
        )


def _log_of(container: str) -> list[str]:
    try:
        return last_lines_of_log(container, _LOG_LINES)
    except (OSError, subprocess.TimeoutExpired):
        return []
