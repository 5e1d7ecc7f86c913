"""squawk's findings over migration files: runs the pinned squawk-cli of the virtual environment.

What our own rules say better, or what a contract migration is there for, is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from db.migrator import Finding, Migration
from ops.errors import OpsError

_CONFIG = ".squawk.toml"
_OURS = Path(__file__).parents[1] / _CONFIG
# lint says the same with the phases and the file's own tables in mind.
_SAID_BY_LINT = {
    "ban-drop-column",
    "ban-drop-table",
    "renaming-column",
    "renaming-table",
    "require-concurrent-index-creation",
}


def is_installed() -> bool:
    return _program().exists()


def squawk(migrations: Sequence[Migration]) -> tuple[Finding, ...]:
    """What squawk finds in the up files. OpsError where it is not installed, or fails."""
    paths = {str(m.up.path): m.up.path for m in migrations}
    if not paths:
        return ()
    if not is_installed():
        raise OpsError(
            f"squawk is not installed beside {sys.executable}; run in the checkout's .venv, which `make .venv` makes,"
            " or say --no-squawk"
        )
    command = [
        str(_program()),
        "--reporter",
        "json",
        "--config",
        str(_config(next(iter(paths.values())).parent)),
    ]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError as exc:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise OpsError(f"squawk failed: {said}") from exc
    return tuple(
        Finding(
            paths[one["file"]],
            # squawk counts from 0.
            int(one["line"]) + 1,
            str(one["rule_name"]),
            " ".join(filter(None, [one["message"], one["help"]])),
        )
        for one in found
        if one["rule_name"] not in _SAID_BY_LINT
    )


def _program() -> Path:
    return Path(sys.executable).with_name("squawk")


def _config(folder: Path) -> Path:
    """The configuration nearest to the folder, else that of this checkout."""
    near = (parent / _CONFIG for parent in [folder.resolve(), *folder.resolve().parents])
    return next((path for path in near if path.exists()), _OURS)
