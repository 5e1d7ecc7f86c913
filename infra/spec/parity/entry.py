"""How an entry of the comparison looks, and the reasons that many of them have."""

from __future__ import annotations

from dataclasses import dataclass

# What stands where a target has nothing of the kind.
NONE = "—"


@dataclass(frozen=True)
class Parity:
    """What a thing is on each target, in Markdown. `why` says why it differs, and is empty where it does not."""

    docker: str
    aws: str
    why: str = ""


def same(text: str) -> Parity:
    """The same on both."""
    return Parity(text, text)


ONE_MACHINE = "a container's limits are the machine's to give; on AWS a size has its memory"
PORT = "nothing is published on a machine there; what may reach a server is a security group's affair"
CLOUDWATCH = "CloudWatch is there, and outlives what it watches"
PLACE = "a machine has no regions, zones or VPCs"
ONE_SERVER = "one container each: a second one on the same machine would not outlive it"
MANAGED = "AWS runs the server, and takes the time it needs where it is told"
