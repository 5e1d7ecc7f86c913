"""Cut off or slow a container's network, from a helper container in the same network namespace.

The helper is the only container with the capability NET_ADMIN, and has no other. It undoes its changes when its time is
over, whether or not the command still runs. A restart of the affected container also ends them, because the container
then gets a new network namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from infra.docker.engine import DockerError, docker, inspect, label_options, remove_container
from infra.spec.checkout import STATE_LABEL

_UNDO = "ip route flush type blackhole; tc qdisc del dev eth0 root 2>/dev/null || true"
_WAIT_AND_UNDO = f'trap "{_UNDO}" EXIT; trap "exit 0" TERM; sleep "$1" & wait'
# Packets to and from these addresses are dropped: the kernel refuses a source that it has no route to.
_CUT_OFF = 'for address; do ip route replace blackhole "$address"; done'
# Not every kernel can delay packets. All can limit the rate.
_SLOW = (
    "if tc qdisc replace dev eth0 root netem delay 200ms 50ms 2>/dev/null; then echo 'delay of 200 ms';"
    " else tc qdisc replace dev eth0 root tbf rate 256kbit burst 8kb latency 500ms && echo '256 kbit/s'; fi"
)


def helper_of(container: str) -> str:
    return f"{container}-chaos"


def cut_off(
    container: str, image: str, seconds: int, labels: Mapping[str, str], addresses: Sequence[str]
) -> str:
    """Drop all packets between a container and these addresses. Return a description."""
    _start_helper(container, image, seconds, labels)
    docker("exec", helper_of(container), "sh", "-ceu", _CUT_OFF, "sh", *addresses)
    return f"without {len(addresses)} other addresses"


def slow(container: str, image: str, seconds: int, labels: Mapping[str, str]) -> str:
    """Delay what a container sends, or limit its rate. Return a description."""
    _start_helper(container, image, seconds, labels)
    return docker("exec", helper_of(container), "sh", "-ceu", _SLOW).strip()


def undo(container: str, image: Callable[[], str], labels: Mapping[str, str]) -> None:
    """Undo both, also if the helper was killed. Does nothing if the container does not run.

    `image` is only needed without a helper.
    """
    helper = helper_of(container)
    try:
        docker("exec", helper, "sh", "-c", _UNDO)
    except DockerError:
        # It has finished, or something has killed it before it could undo its changes.
        if _is_running(container):
            docker(*_run(container, labels), "--rm", image(), "-c", _UNDO)
    remove_container(helper, labels[STATE_LABEL])


def _start_helper(container: str, image: str, seconds: int, labels: Mapping[str, str]) -> None:
    helper = helper_of(container)
    remove_container(helper, labels[STATE_LABEL])
    command = (image, "-c", _WAIT_AND_UNDO, "sh", str(seconds))
    docker(*_run(container, labels), "--detach", "--name", helper, *command)


def _run(container: str, labels: Mapping[str, str]) -> list[str]:
    return [
        *("run", "--network", f"container:{container}", "--user", "0:0", "--cap-drop", "ALL"),
        *("--cap-add", "NET_ADMIN", "--security-opt", "no-new-privileges=true", "--read-only"),
        *("--memory", "32m", "--memory-swap", "32m", "--pids-limit", "16", *label_options(labels)),
    ]


def _is_running(container: str) -> bool:
    return any(each["State"]["Running"] for each in inspect("container", container))
