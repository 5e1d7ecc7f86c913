"""Fill the disk of a server with a file in its data volume, from a helper container that mounts the volume."""

from __future__ import annotations

from collections.abc import Mapping

from ops.chaos.helper import Helper

_MB = 1024**2
# The largest file, and how much of the file system stays free.
FILL_MB, FLOOR_MB, FLOOR_PERCENT = 1024, 2048, 10
_LEAST_MB = 16
_FOLDER = "/mnt"
_FILE = f"{_FOLDER}/groundwork-chaos.fill"


def helper_of(volume: str, user: str, labels: Mapping[str, str]) -> Helper:
    """Return the helper that fills a volume. `user` owns the volume's data."""
    # Without `nocopy`, Docker gives an empty volume the owner of the image's folder.
    options = ("--network", "none", "--user", user, "--volume", f"{volume}:{_FOLDER}:nocopy")
    return Helper(f"{volume}-chaos", labels, options, f"rm -f {_FILE}")


def fill(helper: Helper) -> int:
    """Write the file, and return its size in MB. Write nothing and return 0 if the disk is nearly full."""
    line = helper.sh(f"df --output=size,avail -B1 {_FOLDER}").splitlines()[-1]
    megabytes = fill_size(*(int(word) for word in line.split()))
    if megabytes < _LEAST_MB:
        return 0
    helper.sh(f'fallocate -l "$1" {_FILE}', str(megabytes * _MB))
    return megabytes


def fill_size(size: int, free: int) -> int:
    """Return how many MB to write to a file system of this size and free space, both in bytes."""
    floor = max(FLOOR_MB * _MB, size * FLOOR_PERCENT // 100)
    return max(0, min(FILL_MB, (free - floor) // _MB))
