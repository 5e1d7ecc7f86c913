"""Divide a VPC's addresses into one private and one isolated subnet per zone, all of the same size."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

# The largest VPC that AWS allows is a /16.
SHORTEST_PREFIX = 16
# AWS reserves five addresses of each subnet. Tasks (twice as many during a deployment), endpoints, the standby and
# replicas take one each.
LEAST_ADDRESSES = 32
_LONGEST_SUBNET = 27


@dataclass(frozen=True)
class Subnets:
    """The CIDRs of the subnets, in the order of the zones."""

    private: tuple[str, ...]
    isolated: tuple[str, ...]


def longest_prefix(zones: int) -> int:
    """Return the prefix length of the smallest VPC that has room for the subnets of this many zones."""
    return _LONGEST_SUBNET - _bits(zones)


def divide(cidr: str, zones: int) -> Subnets:
    """Take private subnets from the lower half and isolated ones from the upper one, so that zones can be appended."""
    parts = [str(part) for part in ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=_bits(zones))]
    half = len(parts) // 2
    return Subnets(tuple(parts[:zones]), tuple(parts[half : half + zones]))


def _bits(zones: int) -> int:
    # The division is the same for up to four zones, so appending a zone moves no subnet.
    return 1 + max((zones - 1).bit_length(), 2)
