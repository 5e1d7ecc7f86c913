"""Run a race: create the users, start the processes, disturb Redis, and add up the scores."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Database
from tests.faults.racing.ledger import Ledger
from tests.faults.racing.racer import OURS, Specification, total
from tests.faults.racing.referee import Score

_ROOT = Path(__file__).parents[3]
USERS = 8


@dataclass(frozen=True)
class Course:
    """The servers of a race, and the number of readers and writers in each process."""

    database: Database
    redis_url: str
    namespace: str
    folder: Path
    processes: int = 3
    readers: int = 2
    writers: int = 1

    def race(
        self,
        scheme: str,
        *,
        reads: int,
        invalidations: int = 0,
        disturb: Callable[[int], bool] = lambda reads: True,
        seconds: float = 540,
        **cache_changes: Any,
    ) -> Score:
        """Run until there were `reads` reads and `invalidations` invalidations, or for `seconds`.

        `disturb` is called repeatedly with the number of reads so far, and returns whether the race may end.
        """
        user_ids = self._make_users()
        here = (self.readers + self.writers) * (2 if scheme == OURS else 1)
        path = self.folder / f"ledger-{scheme}-{time.monotonic_ns()}"
        ledger = Ledger(path, USERS, self.processes * here)
        racers = [
            self._start(
                Specification(
                    scheme=scheme,
                    database_url=self.database.url("app"),
                    redis_url=self.redis_url,
                    namespace=self.namespace,
                    ledger=str(path),
                    user_ids=user_ids,
                    actors=self.processes * here,
                    first_actor=process * here,
                    readers=self.readers,
                    writers=self.writers,
                    cache_changes=cache_changes,
                )
            )
            for process in range(self.processes)
        ]
        try:
            give_up_at = time.monotonic() + seconds
            may_end = False
            while time.monotonic() < give_up_at and not ledger.is_stopped():
                if may_end and ledger.reads() >= reads and ledger.invalidations() >= invalidations:
                    break
                assert all(racer.poll() is None for racer in racers), "a process of the race has ended"
                may_end = disturb(ledger.reads())
                time.sleep(0.02)
            ledger.stop()
            return total([_score(racer) for racer in racers])
        finally:
            for racer in racers:
                racer.kill()
                racer.communicate()

    def _make_users(self) -> list[int]:
        """Create users whose ids equal their github_ids."""
        self.database.psql(
            "INSERT INTO groundwork.users (id, github_id, username) OVERRIDING SYSTEM VALUE"
            f" SELECT n, n, 'x' FROM generate_series(1, {USERS}) n ON CONFLICT DO NOTHING"
        )
        return list(range(1, USERS + 1))

    def _start(self, specification: Specification) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.racing.racer", json.dumps(asdict(specification))],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )


def _score(racer: subprocess.Popen[str]) -> Score:
    output, _ = racer.communicate(timeout=60)
    assert racer.returncode == 0
    return Score(**json.loads(output.splitlines()[-1]))
