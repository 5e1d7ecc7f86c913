"""Prices from a TOML file that the user writes. groundwork contains none, because they would soon be outdated."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.text_file import read_text
from ops.errors import Exit, OpsError
from ops.sizing.estimate import Estimate

_HOURS = 730
_GB = 1024**3
FARGATE_VCPU, FARGATE_GB, STORAGE_GB = "fargate.vcpu", "fargate.gb", "gp3.gb"
# The application's tasks have 1 vCPU and 2 GB, those of the access service 0.25 and 0.5.
_APPLICATION, _ACCESS, _ACCESS_TASKS = (1.0, 2.0), (0.25, 0.5), 2
# A primary and a standby of Postgres, and the default of awsRedisNodes.
_SERVERS = 2
# So that no sum is infinite.
_MOST_PRICE = 1e12
_KEYS = {"as_of", "currency", "region", "hour", "month"}


@dataclass(frozen=True)
class Prices:
    """Prices per hour by class and unit, and per month by unit. `source` names their region, date and file."""

    currency: str
    source: str
    hour: Mapping[str, float]
    month: Mapping[str, float]

    def monthly(self, found: Estimate) -> float | None:
        """Return the price of an estimate per month, or None if no single server is large enough."""
        if found.postgres_class is None or found.redis_node is None:
            return None
        vcpus, gb = (
            found.application_tasks * application + _ACCESS_TASKS * access
            for application, access in zip(_APPLICATION, _ACCESS, strict=True)
        )
        hourly = (
            _SERVERS * (self.hour[found.postgres_class] + self.hour[found.redis_node])
            + vcpus * self.hour[FARGATE_VCPU]
            + gb * self.hour[FARGATE_GB]
        )
        return hourly * _HOURS + _SERVERS * found.postgres_storage / _GB * self.month[STORAGE_GB]


def read_prices(path: Path, found: Iterable[Estimate]) -> Prices:
    """Return the prices of a file. Raise UnreadableFile, or OpsError (2) if it is not valid or lacks a needed price."""
    try:
        content = tomllib.loads(read_text(path))
    except ValueError as error:
        raise OpsError(f"{path} is not valid TOML: {error}", Exit.USAGE) from error
    if unknown := content.keys() - _KEYS:
        raise OpsError(f"{path}: unknown key {min(unknown)!r}; use {', '.join(sorted(_KEYS))}", Exit.USAGE)
    for key in ("as_of", "currency", "region"):
        if not str(content.get(key, "")).strip():
            raise OpsError(f"{path}: {key} is missing; add it, because the result names it", Exit.USAGE)
    hour, month = _table(content, "hour", path), _table(content, "month", path)
    needed = {FARGATE_VCPU, FARGATE_GB}
    for each in found:
        needed |= {name for name in (each.postgres_class, each.redis_node) if name is not None}
    missing = [f"hour.{name!r}" for name in sorted(needed - hour.keys())]
    missing += [f"month.{STORAGE_GB!r}"] if STORAGE_GB not in month else []
    if missing:
        raise OpsError(
            f"{path} lacks prices that this load needs: {', '.join(missing)}; add them", Exit.USAGE
        )
    source = f"list prices of {content['region']} as of {content['as_of']}, from {path}"
    return Prices(str(content["currency"]), source, hour, month)


def _table(content: Mapping[str, object], name: str, path: Path) -> dict[str, float]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise OpsError(f"{path}: {name} is not a table; write [{name}] above its prices", Exit.USAGE)
    for key, value in table.items():
        # bool is a kind of int.
        if isinstance(value, dict):
            raise OpsError(
                f'{path}: {name}.{key!r} is a table, not a price; quote names with dots, like "db.r7g.large" = 0.5',
                Exit.USAGE,
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_PRICE:
            raise OpsError(
                f"{path}: {name}.{key!r} is {value!r}, which is not a price; write a number of at least 0, like 0.5",
                Exit.USAGE,
            )
    return {str(key): float(value) for key, value in table.items()}
