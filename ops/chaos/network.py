"""Cut off or slow a container's network, from a helper container in the same network namespace.

The helper is the only container with the capability NET_ADMIN, and has no other. A restart of the affected container
ends both faults, because the container then gets a new network namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops.chaos.helper import Helper

_UNDO = "ip route flush type blackhole; tc qdisc del dev eth0 root 2>/dev/null || true"
# Packets to and from these addresses are dropped: the kernel refuses a source that it has no route to.
_CUT_OFF = 'for address; do ip route replace blackhole "$address"; done'
# Not every kernel can delay packets. All can limit the rate.
_SLOW = (
    "if tc qdisc replace dev eth0 root netem delay 200ms 50ms 2>/dev/null; then echo 'delay of 200 ms';"
    " else tc qdisc replace dev eth0 root tbf rate 256kbit burst 8kb latency 500ms && echo '256 kbit/s'; fi"
)


def helper_of(container: str, labels: Mapping[str, str]) -> Helper:
    """Return the helper of a container's network faults."""
    options = ("--network", f"container:{container}", "--user", "0:0", "--cap-add", "NET_ADMIN")
    return Helper(f"{container}-chaos", labels, options, _UNDO)


def cut_off(helper: Helper, addresses: Sequence[str]) -> str:
    """Drop all packets between a container and these addresses. Return a description."""
    helper.sh(_CUT_OFF, *addresses)
    return f"without {len(addresses)} other addresses"


def slow(helper: Helper) -> str:
    """Delay what a container sends, or limit its rate. Return a description."""
    return helper.sh(_SLOW).strip()
