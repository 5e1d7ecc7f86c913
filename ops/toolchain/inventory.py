"""What the toolchain consists of, and where each part of it was taken from: plain data, kept as JSON.

A checkout remembers in its state folder which Pulumi CLI it uses, so that nothing has to be run to find out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from infra.spec.world import World
from infra.whole_file import put
from ops.errors import Exit, OpsError


class Source(StrEnum):
    """How a part of the toolchain came to be in place during this run."""

    FOUND = "found"
    CACHED = "cached"
    DOWNLOADED = "downloaded"
    BUILT = "built"
    INSTALLED = "installed"
    STARTED = "started"
    MISSING = "missing"


@dataclass(frozen=True)
class Tool:
    """One part of the toolchain; `seconds` is what putting it in place took in this run."""

    name: str
    version: str
    source: Source
    where: str
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "source": str(self.source), "seconds": round(self.seconds, 2)}


@dataclass(frozen=True)
class Toolchain:
    """The parts in place: `pulumi` is the CLI's path, `pulumi_home` its PULUMI_HOME."""

    pulumi: Path
    pulumi_home: Path
    tools: tuple[Tool, ...]


@dataclass(frozen=True)
class Choice:
    """The CLI a checkout decided for, with the file's stamp: another file there means deciding again."""

    pulumi: str
    version: str
    stamp: str

    @classmethod
    def of(cls, pulumi: Path, version: str) -> Choice:
        return cls(pulumi=str(pulumi), version=version, stamp=_stamp(pulumi))

    def holds(self) -> bool:
        return self.stamp == _stamp(Path(self.pulumi))


def record(world: World) -> Path:
    return world.state_dir / "toolchain.json"


def remember(world: World, choice: Choice) -> None:
    """Write the checkout's choice, atomically: a reader sees the old one or the new one."""
    path = record(world)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    put(path, json.dumps(asdict(choice)) + "\n")


def recall(world: World) -> Choice | None:
    """The remembered choice, None where there is none or the file it names has changed."""
    try:
        choice = Choice(**json.loads(record(world).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return choice if choice.holds() else None


def chosen(world: World) -> Choice:
    """The remembered choice; OpsError with exit code 3 where the toolchain is not in place."""
    if (choice := recall(world)) is None:
        raise OpsError(
            "the toolchain is not in place for this checkout; run `groundwork toolchain` first", Exit.PENDING
        )
    return choice


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"
