"""Run the pinned squawk-cli of the virtual environment on migration files.

Findings that groundwork's own rules cover, or that are the purpose of a contract migration, are left out.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from db.migrator import LintFinding, Migration
from ops.errors import OpsError
from ops.migrations.text_file import refuse_broken_link

_CONFIG = ".squawk.toml"
_OURS = Path(__file__).parents[2] / _CONFIG
# groundwork's own rules cover these, and consider phases and tables that the file itself creates.
_SAID_BY_LINT = {
    "ban-drop-column",
    "ban-drop-table",
    "renaming-column",
    "renaming-table",
    "require-concurrent-index-creation",
}


def is_installed() -> bool:
    return _program().exists()


def squawk(migrations: Sequence[Migration]) -> tuple[LintFinding, ...]:
    """Return squawk's findings for the up files. Raise OpsError if squawk is not installed or fails."""
    # As bytes, because squawk writes names as UTF-8 also if the locale is not.
    paths = {os.fsencode(m.up.path): m.up.path for m in migrations}
    if not paths:
        return ()
    if not is_installed():
        raise OpsError(
            f"squawk is not installed next to {sys.executable}; run `make .venv` and use the checkout's .venv,"
            " or pass --no-squawk"
        )
    config = _config(next(iter(paths.values())).parent)
    # An installed package has no configuration of its own.
    options = ["--config", str(config)] if config.exists() else []
    command = [str(_program()), "--reporter", "json", *options]
    # squawk treats each path as a glob pattern.
    patterns = map(glob.escape, paths)
    done = subprocess.run([*command, *patterns], capture_output=True, check=False)
    try:
        found = json.loads(done.stdout)
    except json.JSONDecodeError as exc:
        said = " ".join(done.stderr.decode(errors="replace").split()) or f"exit code {done.returncode}"
        raise OpsError(f"squawk failed: {said}") from exc
    return tuple(
        LintFinding(
            paths[one["file"].encode()],
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
    """Return the configuration file nearest to the folder, or this checkout's."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        path = parent / _CONFIG
        refuse_broken_link(path)
        if path.exists():
            return path
    return _OURS
