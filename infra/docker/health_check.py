"""Runs the health checks of containers, between the infrequent ones of the engine.

Docker checks containers infrequently, because each check starts processes and an idle stack must cost little
(docs/adr/0023). A command that waits for a container runs the same check until it succeeds.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.docker.engine import DockerError, inspect

# A server that runs may take minutes on a busy machine. One that exits again and again does not become healthy.
WAIT_SECONDS = 300.0
_MOST_RESTARTS = 5
# `docker restart` leaves a container exited for a moment.
_EXITED_SECONDS = 5.0
_POLL_SECONDS = 0.1
# Longer than the limit that Docker itself enforces (infra/docker/container.py).
_CHECK_SECONDS = 15.0
# The services with a setting for the memory of their containers, such as redisMemory for redis and redis-2.
_SIZED_SERVICES = ("postgres", "redis", "access", "prometheus")


@dataclass(frozen=True)
class Outcome:
    """The result of one check: whether it succeeded, and what it printed."""

    is_healthy: bool
    output: str


def wait_until_healthy(container: str, seconds: float = WAIT_SECONDS) -> None:
    """Return once the container's health check succeeds.

    Raises DockerError with the output of the last check if this takes longer than `seconds`. Raises it with the
    container's last line of log if the container exits five times, or exits and is not started again. The error says if
    the kernel killed the container because of its memory limit.
    """
    began = last_alive = time.monotonic()
    restarts = _inspected(container)["RestartCount"]
    memory = ""
    while True:
        found = _inspected(container)
        # A restart may reset the state.
        memory = memory or _memory_problem(found)
        last = _check(found, began + seconds - time.monotonic())
        if last.is_healthy:
            return
        name, now = found["Name"].lstrip("/"), time.monotonic()
        # A container that Docker is going to start again is "restarting".
        last_alive = last_alive if found["State"]["Status"] in ("exited", "dead") else now
        ended = None
        if found["RestartCount"] - restarts >= _MOST_RESTARTS:
            ended = "exits each time that it is started"
        elif now - last_alive >= _EXITED_SECONDS:
            ended = f"has exited with code {found['State']['ExitCode']}"
        if ended:
            raise DockerError(
                f"container {name} {ended}{memory} ({_last_line_of_log(name)});"
                f" see `docker logs {name}`, and run the same command again when the cause is removed"
            )
        if now > began + seconds:
            raise DockerError(
                f"container {name} is {found['State']['Status']} and not healthy after {seconds:.0f} s{memory}"
                f"{f' ({last.output[:200]})' if last.output else ''};"
                f" see `docker logs {name}` for the reason, and run the same command again: it resumes"
            )
        time.sleep(_POLL_SECONDS)


def health(container: Mapping[str, Any]) -> str:
    """Return the health of an inspected container.

    Docker's verdict may be 30 s old. If it is not "healthy", run the check to get the current health.
    """
    state = container["State"]
    if not state["Running"]:
        return str(state["Status"])
    verdict = str(state.get("Health", {}).get("Status", state["Status"]))
    return "healthy" if verdict != "healthy" and run_check(container).is_healthy else verdict


def run_check(container: Mapping[str, Any]) -> Outcome:
    """Run the health check of an inspected container inside it. A container without one is healthy while it runs."""
    return _check(container, 0)


def repeated(command: Sequence[str], seconds: float) -> list[str]:
    """Return a command that repeats another one inside a container until it succeeds, for at most `seconds`.

    `docker exec` costs ten times as much as a check, so that one command repeats it.
    """
    loop = f'until "$@"; do sleep {_POLL_SECONDS}; done'
    return ["timeout", f"{seconds:.3f}", "sh", "-c", loop, "sh", *command]


def _check(container: Mapping[str, Any], repeat_seconds: float) -> Outcome:
    """Run the check once, or again and again for `repeat_seconds` until it succeeds."""
    # Docker reports a container that waits for its next restart as running.
    if not container["State"]["Running"] or container["State"].get("Restarting"):
        return Outcome(False, "")
    kind, *words = (container["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
    if kind == "NONE":
        return Outcome(True, "")
    command = words if kind == "CMD" else ["/bin/sh", "-c", *words]
    if repeat_seconds > 0:
        command = repeated(command, repeat_seconds)
    limit = max(repeat_seconds, 0) + _CHECK_SECONDS
    try:
        done = subprocess.run(
            ["docker", "exec", container["Id"], *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(False, f"no answer within {limit:.0f} s")
    # The last line is what the last check printed.
    lines = done.stdout.decode(errors="replace").split("\n")
    return Outcome(done.returncode == 0, next((line.strip() for line in reversed(lines) if line.strip()), ""))


def _memory_problem(container: Mapping[str, Any]) -> str:
    """Return that a container was killed because of its memory limit, with the setting that raises it, or ''."""
    if not container["State"].get("OOMKilled"):
        return ""
    # The servers of replicas have numbers.
    service = re.sub(r"-\d+$", "", (container["Config"]["Labels"] or {}).get("groundwork.service", ""))
    fix = f": raise groundwork:{service}Memory" if service in _SIZED_SERVICES else ""
    return f", killed because it needs more memory than its limit{fix}"


def last_lines_of_log(container: str, count: int) -> list[str]:
    """Return the last `count` lines of a container's log, of both its outputs."""
    done = subprocess.run(
        ["docker", "logs", f"--tail={count}", container],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_CHECK_SECONDS,
        check=False,
    )
    lines = [line.rstrip()[-300:] for line in done.stdout.decode(errors="replace").split("\n")]
    return [line for line in lines if line][-count:]


def _last_line_of_log(container: str) -> str:
    return (last_lines_of_log(container, 1) or ["its log is empty"])[0].strip()


def _inspected(container: str) -> dict[str, Any]:
    found = inspect("container", container)
    if not found:
        raise DockerError(
            f"container {container[:12]} was removed while waiting for its health; run the same command again"
        )
    return found[0]
