"""The checks of a restore drill. Each returns a short description of its result, or raises CheckFailed."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.docker.engine import DockerError, psql
from infra.docker.server_roles import apply_roles
from infra.spec import backup, roles
from ops.backup import pgbackrest
from ops.backup.evidence import CheckFailed
from ops.backup.repository import Contents
from ops.backup.wal import Segment
from ops.backup.workbench import Workbench

_CLOSE = timedelta(seconds=1)
_VALID = re.compile(r"^  (?:archiveId|backup): ")
_STOPPED = re.compile(r"recovery stopping before (?:commit|abort) of ")


def verify_repository(container: str) -> str:
    """Verify the checksum of every file that the repository's manifests list."""
    said = pgbackrest.run(container, "verify", "--output=text", "--verbose")
    lines = said.splitlines()
    if not any(line.strip() == "status: ok" for line in lines):
        bad = [
            " ".join(f"{head} {tail}".split())
            for head, tail in zip(lines, [*lines[1:], ""], strict=False)
            if _VALID.match(head) and ("invalid" in head or re.search(r": [1-9]", tail))
        ]
        raise CheckFailed("; ".join(bad) or " ".join(said.split()))
    return ", ".join(" ".join(line.split()) for line in lines if _VALID.match(line))


def no_gap(contents: Contents) -> str:
    """Check that no WAL file is missing since the newest backup, as `doctor` does. Older gaps are only listed.

    An older gap remains until the backups before it expire, which can take weeks.
    """
    own = [b for b in contents.backups if contents.history.holds(b.wal_stop.timeline, b.lsn_stop)]
    newest = max(own, key=lambda b: b.stop, default=None)
    gaps = contents.missing()
    if newest is None:
        return f"{len(contents.archived_at)} files up to {contents.newest}, no backup of this timeline"
    if late := [gap for gap in gaps if gap.number >= newest.wal_start.number]:
        raise CheckFailed(f"WAL file {_first_of(late)} is missing between older and newer ones")
    if newest not in contents.restorable():
        raise CheckFailed(f"backup {newest.label} lacks the WAL it needs to be consistent")
    since = f" since backup {newest.label}; {_first_of(gaps)} is missing before it" if gaps else ""
    return f"{len(contents.archived_at)} files up to {contents.newest}, no gap{since}"


def _first_of(gaps: list[Segment]) -> str:
    return f"{gaps[0]} and {len(gaps) - 1} more" if len(gaps) > 1 else str(gaps[0])


def newest_commit(container: str) -> datetime | None:
    """Return the time of the last transaction that recovery replayed, or None if it replayed none."""
    epoch = psql(container, "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())").strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None


def reached(bench: Workbench, moment: datetime, newest: datetime | None) -> str:
    """Check that recovery stopped before the end of a transaction after the moment, so that no commit is missing.

    That transaction may also have been rolled back.
    """
    stopped = [line for line in bench.log().splitlines() if _STOPPED.search(line)]
    if not stopped:
        raise CheckFailed(f"recovery did not reach {moment.isoformat()}")
    if newest is not None and newest > moment:
        raise CheckFailed(f"recovery continued to {newest.isoformat()}, past {moment.isoformat()}")
    return stopped[-1].partition("LOG:")[2].strip()


def same_markers(live: dict[int, datetime] | None, recovered: dict[int, datetime], moment: datetime) -> str:
    """Check that all markers up to the moment were restored, and no later ones. Markers within a second are ignored."""
    late = sorted(i for i, at in recovered.items() if at > moment + _CLOSE)
    if late:
        raise CheckFailed(
            f"marker {late[0]} of {recovered[late[0]]} was restored although it was written later"
        )
    if live is None:
        return f"{len(recovered)} markers; not compared, because the server does not run"
    lost = sorted(i for i, at in live.items() if at < moment - _CLOSE and recovered.get(i) != at)
    if lost:
        raise CheckFailed(f"marker {lost[0]} of {live[lost[0]]} was not restored ({len(lost)} in total)")
    return f"{len(recovered)} of {len(live)} markers are due, and all of them were restored"


def amcheck(bench: Workbench) -> str:
    """Check the heap and index structure of every database. Only the temporary server has the amcheck extension."""
    try:
        bench.sh("pg_amcheck --all --install-missing --heapallindexed --no-password 2>&1")
    except DockerError as error:
        raise CheckFailed(f"pg_amcheck: {_first_line(error)}") from error
    count = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'i', 't', 'm')"
    return f"{psql(bench.name, count, database=roles.DATABASE).strip()} relations of {roles.DATABASE} are consistent"


def page_checksums(bench: Workbench) -> str:
    """Check every page of the stopped cluster."""
    try:
        said = bench.sh('pg_checksums --check --pgdata="$1" 2>&1', backup.PGDATA)
    except DockerError as error:
        raise CheckFailed(f"pg_checksums: {_first_line(error)}") from error
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return f"{fields.get('Blocks scanned', '?').strip()} pages, all checksums valid"


def login_urls(bench: Workbench, port: int, connection_limits: Mapping[str, int]) -> dict[str, str]:
    """Apply the stack's roles, as a restore does, with a temporary password. Return a connection string by role.

    `port` is that of the server's relay on 127.0.0.1.
    The stack's passwords may be newer than the restored data, and the data may lack roles or privileges.
    """
    password = secrets.token_urlsafe(24)
    logins = {role: generations[0].name for role, generations in roles.LOGINS.items()}
    verifiers = {login: roles.scram_verifier(password, os.urandom(16)) for login in logins.values()}
    apply_roles(bench.name, verifiers, connection_limits)
    return {
        role: f"postgresql://{login}:{password}@127.0.0.1:{port}/{roles.DATABASE}?sslmode=disable"
        for role, login in logins.items()
    }


def apply_later_migrations(folder: Path, url_of: Callable[[str], str]) -> str:
    """Apply the migrations that are pending at the restored time, as `migrate up` would after a restore.

    `url_of(role)` returns a connection string. Role migrator is needed only if one is pending.
    """
    from db.migrator import MigrationError, Unreachable, apply_pending, read_source, status

    try:
        migrations = read_source(folder)
        # Rows without a file are of a migration that was reverted since. The access service accepts them.
        state = status(url_of("app"), migrations, ignore_missing=True)
        if not state.pending and not state.problems:
            return "none is pending"
        applied = apply_pending(url_of("migrator"), migrations, ignore_missing=True)
    except Unreachable as error:
        raise CheckFailed(str(error)) from error
    except MigrationError as error:
        raise CheckFailed(f"`groundwork migrate up` would fail after a restore: {error}") from error
    return f"applied {', '.join(each.migration.up.path.name for each in applied)}"


def smoke(url: str) -> tuple[str, dict[str, int]]:
    """Read as the application does, with the connection string of role app. Also return its tables' row counts."""
    rows = _row_counts(url)
    users, activities = read_through(url)
    if rows["users"] and not users:
        raise CheckFailed(f"the database has {rows['users']} users, but the data access lists none")
    return f"{users} users read, {activities} activities in their feeds", rows


def _row_counts(url: str) -> dict[str, int]:
    """Count the rows of the application's tables, as role app: their owner could replace one by a view."""
    import psycopg

    from db.entities import ENTITIES
    from db.session import connect

    tables = (*(entity.plural for entity in ENTITIES), "activities")
    counts = ", ".join(f"(SELECT count(*) FROM {roles.SCHEMA}.{table})" for table in tables)
    try:
        with connect(url, options="-c statement_timeout=0") as connection:
            row = connection.execute(f"SELECT {counts}").fetchone()
    except psycopg.Error as error:
        raise CheckFailed(f"role app cannot count the rows: {_first_line(error)}") from error
    return dict(zip(tables, row or (), strict=True))


def read_through(url: str) -> tuple[int, int]:
    """Read users and their feeds through the data access, and return how many of each."""
    from cache.settings import CacheSettings
    from cache.url_source import UrlSource
    from db import DataAccess
    from db.errors import InvalidSetting
    from db.settings import DatabaseSettings

    settings = DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, url), pool_size=2)
    # An unreachable Redis, so that all reads come from the restored rows.
    nowhere = CacheSettings(UrlSource("REDIS_URL", InvalidSetting, "redis://127.0.0.1:1/0"), near_entries=0)
    logging.getLogger("groundwork.cache").setLevel(logging.CRITICAL)
    with DataAccess(settings, nowhere) as data:
        users = data.users.list(limit=20).items
        for user in users:
            if data.users.get(user.id) != user:
                raise CheckFailed(f"user {user.id} differs between a read by id and a list")
        return len(users), sum(len(data.activities.feed(user.id, limit=20).items) for user in users)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removeprefix("`docker exec` failed: ")
