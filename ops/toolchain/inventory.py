"""The parts of the toolchain and their origin, as plain data.

A checkout records its Pulumi CLI in its state folder, so that later runs need not search for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from infra.atomic_write import put
from infra.spec.checkout import Checkout
from infra.state_folder import make_private
from ops.errors import Exit, OpsError


class ToolSource(StrEnum):
    """How a part of the toolchain was provided in this run."""

    FOUND = "found"
    CACHED = "cached"
    DOWNLOADED = "downloaded"
    BUILT = "built"
    INSTALLED = "installed"
    STARTED = "started"
    MISSING = "missing"


@dataclass(frozen=True)
class Tool:
    """One part of the toolchain. `seconds` is the time that its installation took in this run."""

    name: str
    version: str
    source: ToolSource
    where: str
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "source": str(self.source), "seconds": round(self.seconds, 2)}


@dataclass(frozen=True)
class Toolchain:
    """The installed toolchain. `pulumi` is the CLI's path, `pulumi_home` its PULUMI_HOME."""

    pulumi: Path
    pulumi_home: Path
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Choice:
    """The CLI chosen for a checkout. A changed file stamp invalidates the choice."""

    pulumi: str
    version: str
    stamp: str

    @classmethod
    def of(cls, pulumi: Path, version: str) -> Choice:
        return cls(pulumi=str(pulumi), version=version, stamp=_stamp(pulumi))

    def holds(self) -> bool:
        return self.stamp == _stamp(Path(self.pulumi))


def record(checkout: Checkout) -> Path:
    return checkout.state_dir / "toolchain.json"


def remember(checkout: Checkout, choice: Choice) -> None:
    """Write the checkout's choice atomically."""
    path = record(checkout)
    make_private(checkout, path.parent)
    put(path, json.dumps(asdict(choice)) + "\n")


def recall(checkout: Checkout) -> Choice | None:
    """Return the recorded choice, or None if there is none or its file has changed."""
    try:
        choice = Choice(**json.loads(record(checkout).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return choice if choice.holds() else None


def chosen(checkout: Checkout) -> Choice:
    """Return the recorded choice. Raise OpsError with exit code 3 if the toolchain is not installed."""
    if (choice := recall(checkout)) is None:
        raise OpsError(
            "the toolchain is not installed for this checkout; run `groundwork toolchain` first", Exit.PENDING
        )
    return choice


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
