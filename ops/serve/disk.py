"""Free space of the disk. In a stack, the service's root is on the same disk as Docker's data volumes, and neither
Postgres nor Redis can report how much of it is left."""

from __future__ import annotations

import shutil

from prometheus_client import Gauge

FREE = Gauge("groundwork_disk_free_bytes", "Free bytes of the disk with the service's root.")
SIZE = Gauge("groundwork_disk_size_bytes", "Size in bytes of the disk with the service's root.")


def measure(path: str = "/") -> None:
    """Read the file system of `path` at each scrape."""
    FREE.set_function(lambda: shutil.disk_usage(path).free)
    SIZE.set_function(lambda: shutil.disk_usage(path).total)
