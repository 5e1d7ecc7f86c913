"""Print estimates as a table or as a JSON document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ops.sizing.estimate import Estimate, Load, advice
from ops.sizing.prices import Prices

_GB = 1024**3
_NONE = "none large enough"
_ROWS: tuple[tuple[str, Callable[[Estimate], str]], ...] = (
    ("application: cores", lambda each: f"{each.application_cores:.1f}"),
    ("application: tasks of 1 vCPU, 2 GB", lambda each: f"{each.application_tasks}"),
    ("access service: tasks (awsAccessCount)", lambda each: "2"),
    ("Postgres: cores", lambda each: f"{each.postgres_cores:.1f}"),
    ("Postgres: memory for hot data", lambda each: _size(each.postgres_memory)),
    ("Postgres: storage (awsPostgresStorage)", lambda each: _size(each.postgres_storage)),
    ("Postgres: connections", lambda each: f"{each.postgres_connections}"),
    ("Postgres: class (awsPostgresClass)", lambda each: each.postgres_class or _NONE),
    ("Redis: cores", lambda each: f"{each.redis_cores:.1f}"),
    ("Redis: memory", lambda each: _size(each.redis_memory)),
    ("Redis: node type (awsRedisNodeType)", lambda each: each.redis_node or _NONE),
)


def lines(load: Load, found: Sequence[Estimate], prices: Prices | None) -> list[str]:
    """Return the lines of a table with the estimates, followed by notes."""
    users = f"{load.users:,} user{'' if load.users == 1 else 's'}"
    days = f"{load.retention_days} day{'' if load.retention_days == 1 else 's'}"
    title = f"{users}, {_rate(load.reads)} reads/s and {_rate(load.writes)} writes/s at the peak"
    table = [f"{title}, activities kept for {days}", ""]
    table.append(_line("", ("low", "middle", "high")))
    table += [_line(name, [value(each) for each in found]) for name, value in _ROWS]
    if prices is not None:
        costs = [prices.monthly(each) for each in found]
        table.append(
            _line(
                f"{prices.currency} per month", [_NONE if cost is None else f"{cost:,.0f}" for cost in costs]
            )
        )
        table += [
            "",
            f"prices: {prices.source}. Two servers of each kind, without backups, transfer, endpoints and logs",
        ]
    else:
        table += ["", "no prices: pass --prices FILE (docs/scaling.md)"]
    table += [
        "The costs of reads and writes are those of docs/benchmarks.md. docs/scaling.md lists what is assumed.",
        "Measure your application before you rely on an estimate.",
    ]
    return table + [f"note: {each}" for each in advice(load, found)]


def document(load: Load, found: Sequence[Estimate], prices: Prices | None) -> dict[str, Any]:
    """Return the JSON document. Sizes are in bytes."""
    return {
        "load": _camel(asdict(load)),
        "estimates": {
            name: _camel(asdict(each)) | {"monthly": None if prices is None else prices.monthly(each)}
            for name, each in zip(("low", "middle", "high"), found, strict=True)
        },
        "currency": None if prices is None else prices.currency,
        "prices": None if prices is None else prices.source,
        "notes": advice(load, found),
    }


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    def renamed(name: str) -> str:
        first, *others = name.split("_")
        return first + "".join(other.capitalize() for other in others)

    return {
        renamed(name): round(value, 2) if isinstance(value, float) else value
        for name, value in fields.items()
    }


def _line(name: str, values: Sequence[str]) -> str:
    return f"{name:<42}" + "".join(f"{value:>20}" for value in values)


def _rate(value: float) -> str:
    """Return a rate without an exponent, as the options of `groundwork size` accept it."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def _size(value: float) -> str:
    return f"{value / _GB:,.0f} GB" if value >= 10 * _GB else f"{value / _GB:.2f} GB"
