"""Marker commits. Backups, restores and drills write them to check later what was restored, and to advance WAL.

They are in database `postgres`, to which only the superuser connects, not in the application's schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from infra.docker.engine import psql
from ops.backup.wal import Segment

_TABLE = "groundwork_backup.marker"
_CREATE = f"""
SET client_min_messages = warning;
-- Without a synchronous replica, a commit would wait for one.
SET synchronous_commit = local;
CREATE SCHEMA IF NOT EXISTS groundwork_backup;
CREATE TABLE IF NOT EXISTS {_TABLE} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
# The purpose of a restore's last marker.
RESTORED = "restored"


@dataclass(frozen=True)
class Marker:
    """A committed row, and the WAL segment that contains its commit."""

    id: int
    written_at: datetime
    segment: Segment


def write(container: str, purpose: str) -> Marker:
    """Commit a marker as superuser on the server in a container."""
    # The write position, not the insert position. If the archive timeout switches segments in between, the insert
    # position is already in the next segment, which may not be archived for a long time.
    sql = (
        f"{_CREATE}INSERT INTO {_TABLE} (purpose) VALUES ('{purpose}')"
        " RETURNING id, extract(epoch FROM written_at);\n"
        "SELECT pg_walfile_name(pg_current_wal_lsn());\n"
    )
    row, file = psql(container, sql).split()
    number, _, epoch = row.partition("|")
    segment = Segment.parse(file)
    assert segment is not None
    return Marker(int(number), datetime.fromtimestamp(float(epoch), UTC), segment)


def read(container: str) -> dict[int, datetime]:
    """Return all markers: id -> time of writing."""
    if not _exists(container):
        return {}
    rows = psql(container, f"SELECT id, extract(epoch FROM written_at) FROM {_TABLE}").split()
    pairs = (row.split("|") for row in rows)
    return {int(number): datetime.fromtimestamp(float(epoch), UTC) for number, epoch in pairs}


def restored_at(container: str) -> datetime | None:
    """Return the time of the newest restore, or None."""
    if not _exists(container):
        return None
    sql = f"SELECT extract(epoch FROM max(written_at)) FROM {_TABLE} WHERE purpose = '{RESTORED}'"
    epoch = psql(container, sql).strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None


def _exists(container: str) -> bool:
    return bool(psql(container, f"SELECT to_regclass('{_TABLE}')").strip())
