"""Marker commits: what a backup, restore or drill writes to know later what came back, and to move WAL along.

They live in database `postgres`, to which no role but the superuser connects: not in the application's schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from infra.docker.engine import psql
from ops.backup.wal import Segment

_TABLE = "groundwork_backup.marker"
_CREATE = f"""
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS groundwork_backup;
CREATE TABLE IF NOT EXISTS {_TABLE} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    purpose text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


@dataclass(frozen=True)
class Marker:
    """A committed row, and the WAL segment that holds its commit."""

    id: int
    written_at: datetime
    segment: Segment


def write(container: str, purpose: str) -> Marker:
    """Commit a marker on the server in a container, as its superuser."""
    # The position written to: one for inserting already lies in the next segment where the archive's timeout
    # came in between, and nothing may follow that would have that one archived.
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
    """Every marker there is: id -> when it was written."""
    if not psql(container, f"SELECT to_regclass('{_TABLE}')").strip():
        return {}
    rows = psql(container, f"SELECT id, extract(epoch FROM written_at) FROM {_TABLE}").split()
    pairs = (row.split("|") for row in rows)
    return {int(number): datetime.fromtimestamp(float(epoch), UTC) for number, epoch in pairs}
