"""The folders of the data volumes during a restore, which record how far the restore has come.

Folders are renamed and never overwritten. Their names are also known to the images' entrypoints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.spec import backup, postgres
from ops.backup.pgbackrest import Progress
from ops.backup.workbench import Workbench
from ops.errors import Exit, OpsError

PGDATA = backup.PGDATA
_NAME = PGDATA.rpartition("/")[2]
RESTORING = f"{PGDATA}.restoring"
# While this folder exists, the entrypoint starts no server.
BEFORE = f"{PGDATA}.before-restore"
_BEFORE_NAME = f"{_NAME}.before-restore"
REPLACED = f"{PGDATA}.replaced"
_JOURNAL = f"{postgres.DATA_DIR}/restore.json"


@dataclass(frozen=True)
class Folders:
    """The data volume of a stack's restored server, mounted in a workbench. Every change can be repeated after a kill.

    `copies` are where the data volumes of replicas are mounted.
    """

    bench: Workbench
    stack: str
    copies: tuple[str, ...] = ()

    def data(self) -> list[str]:
        """Return the data folders that exist, that of the restored server first."""
        return self.bench.existing(PGDATA, *self._copied())

    def journal(self) -> dict[str, Any]:
        """Return the journal of the current restore: target, backup, its beginning, and how far it has come."""
        return self._look()[1]

    def are_touched(self) -> bool:
        """Return whether a restore is in progress."""
        return bool(self.bench.existing(RESTORING, BEFORE, REPLACED, _JOURNAL))

    def have_recovered(self) -> bool:
        """Return whether the restored cluster has finished recovery. Its timeline is archived then: no way back."""
        return self._recovered() is not None

    def are_past_return(self, target: str) -> bool:
        """Return whether the restore to `target` only needs to be finished. Raise OpsError (7) if another one does."""
        journal = self._recovered()
        if journal is None:
            return False
        if journal.get("target") != target:
            self.refuse_past_return()
        return True

    def have_served(self) -> bool:
        """Return whether servers have run on the restored data, which therefore may have changed since.

        Call it only if the restored cluster has recovered. A replica has data again only after the first server has
        answered.
        """
        copied, journal = self._look(*self._copied())
        return bool(journal.get("served")) or bool(copied)

    def refuse_past_return(self) -> None:
        """Raise OpsError (7) if the restore in progress can only be finished."""
        journal = self._recovered()
        if journal is not None:
            target = journal.get("target")
            raise OpsError(
                f"a restore to {target} has recovered but is not finished; finish it with"
                f" `groundwork restore --to {target} --stack {self.stack}` first",
                Exit.REFUSED,
            )

    def begin(self, target: str, label: str) -> None:
        self._write({"target": target, "backup": label, "begun": datetime.now(UTC).isoformat()})

    def begun(self) -> datetime | None:
        """Return when the restore in progress began, or None if an earlier release began it."""
        text = self.journal().get("begun")
        return None if text is None else datetime.fromisoformat(text)

    def exchange(self) -> None:
        """Put the restored folder in place of the old one. If there was no old one, keep an empty one instead.

        The old data of replicas is renamed too, so that none of them starts with it.
        """
        self.bench.sh(
            f"""
            sync
            for copy; do
                [ -e "$copy/{_NAME}" ] || mkdir "$copy/{_NAME}"
                mv "$copy/{_NAME}" "$copy/{_BEFORE_NAME}"
            done
            [ -e {PGDATA} ] || mkdir {PGDATA}
            mv {PGDATA} {BEFORE}
            mv {RESTORING} {PGDATA}
            sync
            """,
            *self.copies,
        )

    def bring_back(self, progress: Progress) -> None:
        """Undo an unfinished restore."""
        if not self.are_touched():
            return
        progress("putting back the previous data")
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
            for copy; do
                [ ! -e "$copy/{_BEFORE_NAME}" ] || rmdir "$copy/{_BEFORE_NAME}" 2>/dev/null \\
                    || mv "$copy/{_BEFORE_NAME}" "$copy/{_NAME}"
            done
            rm -rf {RESTORING} {_JOURNAL}
            """,
            *self.copies,
        )

    def release(self) -> None:
        """Accept the restored cluster as the current one, so that its container may start it."""
        self._write(self.journal() | {"recovered": True})
        # Patroni would prefer the settings in this file, which are as old as the backup, to those of the stack.
        self.bench.sh(
            f"""
            rm -f {PGDATA}/patroni.dynamic.json
            if [ -e {BEFORE} ]; then rm -rf {REPLACED}; mv {BEFORE} {REPLACED}; fi
            sync
            """
        )

    def remove_standby_signal(self) -> None:
        """Let the restored server start as a primary.

        Patroni starts every server as a standby, and then promotes it. Until the restored server has answered, no other
        server has its data.
        """
        self.bench.sh(f"rm -f {PGDATA}/standby.signal")

    def mark_served(self) -> None:
        """Record that the restored server has answered, so that it and its copies are never replaced again."""
        self._write(self.journal() | {"served": True})

    def clear_copies(self) -> None:
        """Delete the old data of the replicas, which then copy the restored data."""
        if self.copies:
            self.bench.sh(f'for copy; do rm -rf "$copy/{_BEFORE_NAME}"; done', *self.copies)

    def end(self) -> None:
        """Remove the old data. The journal stays, so that a killed restore is still resumed."""
        self.bench.sh(f"rm -rf {REPLACED} {RESTORING}")

    def has_only_journal(self) -> bool:
        """Return whether a restore has served its data and removed the old data."""
        old, journal = self._look(REPLACED)
        return bool(journal.get("served")) and not old

    def forget(self) -> None:
        """Remove the journal of a finished restore."""
        self.bench.sh(f"rm -f {_JOURNAL}")

    def _copied(self) -> list[str]:
        return [f"{copy}/{_NAME}" for copy in self.copies]

    def _recovered(self) -> dict[str, Any] | None:
        """Return the journal of a restore whose cluster has finished recovery, or None."""
        signal = f"{PGDATA}/recovery.signal"
        found, journal = self._look(REPLACED, BEFORE, PGDATA, signal)
        exchanged = {BEFORE, PGDATA} <= found and signal not in found
        return journal if REPLACED in found or journal.get("recovered") or exchanged else None

    def _look(self, *paths: str) -> tuple[set[str], dict[str, Any]]:
        """Return those of the paths that exist, and the journal, with one command in the container."""
        script = f'for path; do [ ! -e "$path" ] || echo "$path"; done; cat {_JOURNAL} 2>/dev/null || true'
        lines = self.bench.sh(script, *paths).splitlines()
        journals = [line for line in lines if not line.startswith("/")]
        return set(lines) - set(journals), dict(json.loads(journals[0])) if journals else {}

    def _write(self, journal: dict[str, Any]) -> None:
        self.bench.sh(
            f'printf "%s" "$1" > {_JOURNAL}.new; sync; mv {_JOURNAL}.new {_JOURNAL}', json.dumps(journal)
        )
