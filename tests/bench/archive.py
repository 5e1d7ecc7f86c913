"""Measure the import of a generated hour of GitHub Archive: peak memory and speed."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.result import Result

_BAR_MB = 150
# `python -c` instead of the command, because only the process itself can read its peak memory before it ends. Not
# ru_maxrss, which a child inherits from its parent.
_MEASURED = """
import pathlib, sys
from ops.cli import main
try:
    main(sys.argv[1:])
finally:
    print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr)
"""


def measure_import(database_url: str, *, events: int, rounds: int = 3) -> list[Result]:
    """Measure with `events` per file, each about 2 kB. Every round imports different events."""
    megabytes, rates = [], []
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        for turn in range(rounds):
            file = Path(folder) / f"hour{turn}.json.gz"
            _write(file, turn * events + 1, events)
            done = subprocess.run(
                [sys.executable, "-c", _MEASURED, "import", "gharchive", str(file), "--json"],
                env=os.environ | {"DATABASE_URL": database_url},
                capture_output=True,
                text=True,
                check=True,
            )
            said = json.loads(done.stdout)["files"][0]
            assert said["loaded"] == events, said
            megabytes.append(int(done.stderr.split("VmHWM:")[1].split()[0]) / 1024)
            rates.append(events / said["seconds"])
    note = f"{events:,} events, {max(rates):,.0f}/s"
    return [Result("import of an hour, memory at its most", megabytes, "MB", at_most=_BAR_MB, note=note)]


def _write(file: Path, first: int, events: int) -> None:
    with gzip.open(file, "wt", compresslevel=1, encoding="utf-8") as packed:
        for n in range(first, first + events):
            event = {
                "id": str(n),
                "type": "PushEvent",
                "actor": {"id": n % 5000 + 1, "login": f"made-up-{n % 5000 + 1}"},
                "repo": {"id": n % 9000 + 1, "name": f"made/up{n % 9000 + 1}"},
                "payload": {
                    "size": n % 7,
                    "commits": [{"message": f"made up {n} {c}" * 4} for c in range(25)],
                },
                "public": True,
                "created_at": f"2015-01-01T15:{n // 60 % 60:02}:{n % 60:02}Z",
            }
            packed.write(json.dumps(event) + "\n")
