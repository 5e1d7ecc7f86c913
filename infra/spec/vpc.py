"""How a VPC's addresses are divided: a private and an isolated subnet in each zone, all of one size."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

# AWS's VPCs have /16 at the largest.
SHORTEST_PREFIX = 16
# AWS keeps five of each subnet; tasks, endpoints, a standby and replicas take one each, deployments twice that.
LEAST_ADDRESSES = 32
_LONGEST_SUBNET = 27


@dataclass(frozen=True)
class Subnets:
    """CIDRs by zone, in the order of the zones."""

    private: tuple[str, ...]
    isolated: tuple[str, ...]


def longest_prefix(zones: int) -> int:
    """The prefix of the smallest VPC that has room for the subnets of so many zones."""
    return _LONGEST_SUBNET - _bits(zones)


def divide(cidr: str, zones: int) -> Subnets:
    """The subnets: private ones from the lower half, isolated ones from the upper, so that a zone can be added."""
    parts = [str(part) for part in ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=_bits(zones))]
    half = len(parts) // 2
    return Subnets(tuple(parts[:zones]), tuple(parts[half : half + zones]))


def _bits(zones: int) -> int:
    # Up to four zones the division is the same: adding one moves no subnet.
    return 1 + max((zones - 1).bit_length(), 2)
