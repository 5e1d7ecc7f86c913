"""The sizes that AWS offers: memory of RDS classes and cache nodes, and CPU and memory of Fargate tasks.

Limits are derived from these numbers, so a family that is not listed here is refused.
"""

from __future__ import annotations

_GIB = 1024**3
# max_connections of RDS is at most LEAST(DBInstanceClassMemory / 9531392, 5000).
BYTES_PER_CONNECTION = 9_531_392
MOST_CONNECTIONS = 5000

_BURSTABLE_FAMILIES = ("t3", "t4g")
_BURSTABLE = {"micro": 1, "small": 2, "medium": 4, "large": 8, "xlarge": 16, "2xlarge": 32}
_GENERAL = {
    "large": 8,
    "xlarge": 16,
    "2xlarge": 32,
    "4xlarge": 64,
    "8xlarge": 128,
    "12xlarge": 192,
    "16xlarge": 256,
}
_MEMORY = {size: 2 * gib for size, gib in _GENERAL.items()}
_FAMILIES = {
    **dict.fromkeys(_BURSTABLE_FAMILIES, _BURSTABLE),
    **dict.fromkeys(("m5", "m6g", "m6i", "m7g", "m7i", "m8g"), _GENERAL),
    **dict.fromkeys(("r5", "r6g", "r6i", "r7g", "r7i", "r8g"), _MEMORY),
}
# RDS instance class -> memory in GiB.
DATABASE_CLASSES = {
    f"db.{family}.{size}": gib for family, sizes in _FAMILIES.items() for size, gib in sizes.items()
}

_CACHE_BURSTABLE = {"micro": 0.5, "small": 1.37, "medium": 3.09}
_CACHE_GENERAL = {"large": 6.38, "xlarge": 12.93, "2xlarge": 26.04, "4xlarge": 52.26, "12xlarge": 157.12}
_CACHE_MEMORY = {"large": 13.07, "xlarge": 26.32, "2xlarge": 52.82, "4xlarge": 105.81, "12xlarge": 317.77}
_CACHE_FAMILIES = {
    **dict.fromkeys(_BURSTABLE_FAMILIES, _CACHE_BURSTABLE),
    **dict.fromkeys(("m5", "m6g", "m7g"), _CACHE_GENERAL),
    **dict.fromkeys(("r5", "r6g", "r7g"), _CACHE_MEMORY),
}
# The size of a class, without its family -> virtual CPUs. A large burstable class has as many as a small one.
_VCPUS = {
    "micro": 2,
    "small": 2,
    "medium": 2,
    "large": 2,
    "xlarge": 4,
    "2xlarge": 8,
    "4xlarge": 16,
    "8xlarge": 32,
}
_VCPUS |= {"12xlarge": 48, "16xlarge": 64}
# ElastiCache node type -> maxmemory in GiB, before reserved-memory-percent is subtracted.
CACHE_NODES = {
    f"cache.{family}.{size}": gib for family, sizes in _CACHE_FAMILIES.items() for size, gib in sizes.items()
}

# CPU units of a Fargate task -> the memory sizes in MiB that it may have.
FARGATE = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
}
# The retention periods in days that CloudWatch Logs offers.
LOG_RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180),
    *(365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
# Seconds between two measurements of enhanced monitoring.
MONITORING_SECONDS = (1, 5, 10, 15, 30, 60)


def is_burstable(name: str) -> bool:
    """Return whether an RDS class or a cache node type has CPU credits."""
    return name.split(".")[1] in _BURSTABLE_FAMILIES


def database_memory(instance_class: str) -> int:
    """Return the memory of an RDS class in bytes."""
    return DATABASE_CLASSES[instance_class] * _GIB


def vcpus(instance_class: str) -> int:
    """Return the number of virtual CPUs of an RDS class."""
    return _VCPUS[instance_class.rpartition(".")[2]]


def most_connections(instance_class: str) -> int:
    """Return the highest max_connections that RDS allows for an instance class."""
    return min(database_memory(instance_class) // BYTES_PER_CONNECTION, MOST_CONNECTIONS)


def cache_memory(node_type: str) -> int:
    """Return the memory of a cache node in bytes, before the reserved share is subtracted."""
    return int(CACHE_NODES[node_type] * _GIB)
