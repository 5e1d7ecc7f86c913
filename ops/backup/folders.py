"""The folders of a data volume during a restore, and what they say about how far one had come.

Folders are renamed and never written over. Nothing else knows their names, but the image's entrypoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from infra.spec import backup, postgres
from ops.backup.pgbackrest import Progress
from ops.backup.workbench import Workbench
from ops.errors import Exit, OpsError

PGDATA = backup.PGDATA
RESTORING = f"{PGDATA}.restoring"
# The entrypoint starts no server while it is there.
BEFORE = f"{PGDATA}.before-restore"
REPLACED = f"{PGDATA}.replaced"
_JOURNAL = f"{postgres.DATA_DIR}/restore.json"


@dataclass(frozen=True)
class Folders:
    """A data volume as a workbench has it mounted. Every change may be killed in between, and repeated."""

    bench: Workbench

    def journal(self) -> dict[str, Any]:
        """What a restore under way wrote down of itself: target, backup, whether it has recovered."""
        text = self.bench.sh(f"cat {_JOURNAL} 2>/dev/null || true")
        return dict(json.loads(text)) if text.strip() else {}

    def are_touched(self) -> bool:
        """Whether a restore is under way."""
        return any(self.bench.exists(path) for path in (RESTORING, BEFORE, REPLACED, _JOURNAL))

    def have_recovered(self) -> bool:
        """Whether the restored cluster is out of recovery: its timeline is in the archive, and it goes forward only."""
        if self.bench.exists(REPLACED) or self.journal().get("recovered"):
            return True
        exchanged = self.bench.exists(BEFORE) and self.bench.exists(PGDATA)
        return exchanged and not self.bench.exists(f"{PGDATA}/recovery.signal")

    def are_past_return(self, target: str) -> bool:
        """Whether the restore to `target` was begun and only needs finishing. OpsError (7) where another one does."""
        if not self.have_recovered():
            return False
        if self.journal().get("target") != target:
            self.refuse_past_return()
        return True

    def refuse_past_return(self) -> None:
        """OpsError (7) where a restore can only be finished."""
        if self.have_recovered():
            target = self.journal().get("target")
            raise OpsError(
                f"a restore to {target} has recovered and is not finished;"
                f" `groundwork restore --to {target}` finishes it, then another can begin",
                Exit.REFUSED,
            )

    def begin(self, target: str, label: str) -> None:
        self._write({"target": target, "backup": label})

    def exchange(self) -> None:
        """Put the restored folder in the old one's place. An empty one stands for data that was gone already."""
        self.bench.sh(
            f"sync; if [ -e {PGDATA} ]; then mv {PGDATA} {BEFORE}; else mkdir {BEFORE}; fi;"
            f" mv {RESTORING} {PGDATA}; sync"
        )

    def bring_back(self, progress: Progress) -> None:
        """Undo what an unfinished restore did."""
        if not self.are_touched():
            return
        progress("putting the data back that was there before")
        self.bench.sh(
            f"""
            if [ -e {BEFORE} ]; then
                if [ -e {PGDATA} ]; then
                    pg_ctl stop --wait --mode=immediate --silent --pgdata={PGDATA} >/dev/null 2>&1 || true
                    rm -rf {RESTORING}
                    mv {PGDATA} {RESTORING}
                fi
                rmdir {BEFORE} 2>/dev/null || mv {BEFORE} {PGDATA}
            fi
            rm -rf {RESTORING} {_JOURNAL}
            """
        )

    def release(self) -> None:
        """The restored cluster is the one now: its container may start it."""
        self._write(self.journal() | {"recovered": True})
        self.bench.sh(f"if [ -e {BEFORE} ]; then rm -rf {REPLACED}; mv {BEFORE} {REPLACED}; fi; sync")

    def end(self) -> None:
        """Remove the old data, and what was written down, last."""
        self.bench.sh(f"rm -rf {REPLACED} {RESTORING}; rm -f {_JOURNAL}")

    def _write(self, journal: dict[str, Any]) -> None:
        self.bench.sh(
            f'printf "%s" "$1" > {_JOURNAL}.new; sync; mv {_JOURNAL}.new {_JOURNAL}', json.dumps(journal)
        )
