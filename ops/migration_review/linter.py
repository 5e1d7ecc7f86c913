"""squawk's findings on migrations, where squawk is installed: by the project's own configuration."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError

_CONFIGURATION = Path(__file__).parents[2] / ".squawk.toml"


@dataclass(frozen=True)
class Finding:
    """What squawk says of a line (from 1) of a file."""

    line: int
    rule: str
    message: str
    help: str


def lint(paths: Sequence[Path]) -> dict[Path, list[Finding]] | None:
    """The findings by file; None where squawk is not installed."""
    command = shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")
    if command is None:
        return None
    found: dict[Path, list[Finding]] = {path: [] for path in paths}
    if not paths:
        return found
    options = ["--config", str(_CONFIGURATION)] if _CONFIGURATION.is_file() else []
    done = subprocess.run(
        [command, "--reporter", "json", *options, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    try:
        for each in json.loads(done.stdout or "[]"):
            found[Path(each["file"])].append(
                Finding(each["line"] + 1, each["rule_name"], each["message"], each.get("help") or "")
            )
    except (ValueError, KeyError) as error:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise OpsError(f"squawk gave no findings: {said[0] if said else error!r}") from error
    return found
