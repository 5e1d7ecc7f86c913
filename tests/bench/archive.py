"""Measure the import of a generated hour of GitHub Archive: peak memory, and speed beside psql."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.spec import roles
from tests.bench.psql import Psql
from tests.bench.result import Result
from tests.containers import Server

_BAR_MB = 150
_BAR_SPEED = 0.4
# On two cores, which the server needs too.
_BAR_JOBS = 1.5
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


def measure_import(server: Server, *, events: int, rounds: int = 3) -> list[Result]:
    """Measure with two files of `events`, each about 2 kB, and with one job and two. Each round has different events.

    psql loads the same rows into the same tables, without parsing them and without users and repositories.
    """
    megabytes, rates, speeds, gains = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="gw-bench-") as folder:
        for turn in range(rounds):
            files = [Path(folder) / f"hour{turn}-{n}.json.gz" for n in range(2)]
            for n, file in enumerate(files):
                _write(file, (2 * turn + n) * events + 1, events)
            if turn == 0:
                # Stores the users and repositories, which every file has.
                _import(server, files[:1], 1, events)
            _empty(server)
            seconds, peak = _import(server, files, 1, events)
            psql = Psql(server)
            _empty(server)
            speeds.append(psql.copy_seconds() / seconds)
            _empty(server)
            two_jobs, _ = _import(server, files, 2, events)
            gains.append(seconds / two_jobs)
            megabytes.append(peak)
            rates.append(2 * events / seconds)
    note = f"{2 * events:,} events, {max(rates):,.0f}/s"
    return [
        Result("import of an hour, memory at its most", megabytes, "MB", at_most=_BAR_MB, note=note),
        Result(
            "import of an hour, speed beside psql's \\copy of the same rows", speeds, "x", at_least=_BAR_SPEED
        ),
        Result("import of two hours, speed of `--jobs 2` beside one job", gains, "x", at_least=_BAR_JOBS),
    ]


def _import(server: Server, files: list[Path], jobs: int, events: int) -> tuple[float, float]:
    """Import files, and return the seconds and the peak memory of the importing process in MB."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _MEASURED,
            "import",
            "gharchive",
            *map(str, files),
            "--json",
            f"--jobs={jobs}",
        ],
        env=os.environ | {"DATABASE_URL": server.database_url("app_a")},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)["files"]
    assert [file["loaded"] for file in said] == [events] * len(files), said
    return sum(file["seconds"] for file in said), int(done.stderr.split("VmHWM:")[1].split()[0]) / 1024


def _empty(server: Server) -> None:
    """Delete activities, and keep users and repositories."""
    server.psql(f"TRUNCATE {roles.SCHEMA}.activities, {roles.SCHEMA}.cache_outbox", roles.DATABASE)


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
