"""The health check of a cluster's server, with fakes of psql and pg_isready."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from infra.images.context import IMAGES
from tests.promises import promise

SCRIPT = IMAGES / "patroni" / "groundwork-health"
PSQL = """#!/bin/sh
case "$*" in
    *--command=CHECKPOINT) echo checkpoint >> "$CALLS"; exit 1 ;;
    *) echo "$STATE" ;;
esac
"""


@promise("a replica that follows a new timeline makes a checkpoint, so that it is read again")
@pytest.mark.parametrize(
    ("state", "code", "calls"),
    [
        ("primary", 0, []),
        ("streaming", 0, []),
        # The server is healthy even if the checkpoint fails.
        ("streaming a new timeline", 0, ["checkpoint"]),
        ("not streaming", 1, []),
        ("waiting", 1, []),
        ("waiting a new timeline", 1, []),
    ],
)
def test_a_replica_on_a_new_timeline_makes_a_checkpoint(
    tmp_path: Path, state: str, code: int, calls: list[str]
) -> None:
    for name, text in {"psql": PSQL, "pg_isready": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    noted = tmp_path / "calls"
    noted.touch()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(noted), "STATE": state}
    done = subprocess.run(
        ["sh", str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (code, state)
    assert noted.read_text().splitlines() == calls
