"""How full the disk is. In a stack the service's root lies on the disk that Docker keeps the data volumes on, and
neither Postgres nor Redis can tell how much of it is left."""

from __future__ import annotations

import shutil

from prometheus_client import Gauge

FREE = Gauge("groundwork_disk_free_bytes", "Free bytes of the disk that the service's root lies on.")
SIZE = Gauge("groundwork_disk_size_bytes", "Bytes of the disk that the service's root lies on.")


def measure(path: str = "/") -> None:
    """Ask the file system of `path` at each scrape."""
    FREE.set_function(lambda: shutil.disk_usage(path).free)
    SIZE.set_function(lambda: shutil.disk_usage(path).total)
