"""What a drill checks. Each returns what it saw in a few words, and raises CheckFailed with the reason."""

from __future__ import annotations

import logging
import os
import re
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.docker.engine import DockerError, docker, psql
from infra.outputs import database_url
from infra.spec import backup, postgres, roles
from ops.backup import pgbackrest
from ops.backup.evidence import CheckFailed
from ops.backup.repository import Contents
from ops.backup.workbench import Workbench

_CLOSE = timedelta(seconds=1)
_VALID = re.compile(r"^  (?:archiveId|backup): ")


def verify_repository(container: str) -> str:
    """Read and checksum every file that the repository's manifests name."""
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
    """Every WAL file from the oldest backup to the newest one archived is there."""
    gaps = contents.missing()
    if gaps:
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise CheckFailed(f"WAL file {gaps[0]}{more} is missing between older and newer ones")
    cut_off = [b.label for b in contents.backups if b not in contents.restorable()]
    off_history = [
        label
        for label, b in ((b.label, b) for b in contents.backups)
        if label in cut_off and contents.history.holds(b.wal_stop.timeline, b.lsn_stop)
    ]
    if off_history:
        raise CheckFailed(f"backup {off_history[0]} lacks WAL that makes it consistent")
    return f"{len(contents.archived_at)} files up to {contents.newest}, no gap"


def newest_commit(container: str) -> datetime | None:
    """The time of the last transaction that recovery replayed; None where it replayed none."""
    epoch = psql(container, "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())").strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None


def reached(bench: Workbench, moment: datetime, newest: datetime | None) -> str:
    """Recovery saw a commit after the moment: so none before it is missing."""
    stopped = [line for line in bench.log().splitlines() if "recovery stopping before commit" in line]
    if not stopped:
        raise CheckFailed(f"recovery did not reach {moment.isoformat()}")
    if newest is not None and newest > moment:
        raise CheckFailed(f"recovery went on to {newest.isoformat()}, past {moment.isoformat()}")
    return stopped[-1].partition("LOG:")[2].strip()


def same_markers(live: dict[int, datetime] | None, recovered: dict[int, datetime], moment: datetime) -> str:
    """Every marker up to the moment came back, and none after it; a second around it is not looked at."""
    late = sorted(i for i, at in recovered.items() if at > moment + _CLOSE)
    if late:
        raise CheckFailed(f"marker {late[0]} of {recovered[late[0]]} is there, and was written later")
    if live is None:
        return f"{len(recovered)} markers; the server does not run, so there is nothing to compare with"
    lost = sorted(i for i, at in live.items() if at < moment - _CLOSE and recovered.get(i) != at)
    if lost:
        raise CheckFailed(f"marker {lost[0]} of {live[lost[0]]} did not come back ({len(lost)} in all)")
    return f"{len(recovered)} of {len(live)} markers are due, and there"


def amcheck(bench: Workbench) -> str:
    """Heap and index structure of every database; the extension exists in the throwaway alone."""
    try:
        bench.sh("pg_amcheck --all --install-missing --heapallindexed --no-password 2>&1")
    except DockerError as error:
        raise CheckFailed(f"pg_amcheck: {_first_line(error)}") from error
    count = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'i', 't', 'm')"
    return f"{psql(bench.name, count, database=roles.DATABASE).strip()} relations of {roles.DATABASE} hold together"


def page_checksums(bench: Workbench) -> str:
    """Every page of the stopped cluster."""
    try:
        said = bench.sh('pg_checksums --check --pgdata="$1" 2>&1', backup.PGDATA)
    except DockerError as error:
        raise CheckFailed(f"pg_checksums: {_first_line(error)}") from error
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return f"{fields.get('Blocks scanned', '?').strip()} pages, no bad checksum"


def smoke(bench: Workbench, ca_file: Path | None) -> tuple[str, dict[str, int]]:
    """The application's own way in, as role app over TLS; and the rows of its tables."""
    password = secrets.token_urlsafe(24)
    login = roles.LOGINS["app"][0].name
    # The stack's password may be newer than what was restored, and need not be known here.
    verifier = roles.scram_verifier(password, os.urandom(16))
    psql(bench.name, f"SET log_statement = 'none'; ALTER ROLE {login} PASSWORD '{verifier}';")
    port = int(docker("port", bench.name, str(postgres.PORT)).rsplit(":", 1)[1])
    url = database_url(login=login, password=password, host="localhost", port=port, ca_file=str(ca_file))
    tables = ("users", "organizations", "repositories", "activities")
    counted = psql(
        bench.name,
        "SELECT " + ", ".join(f"(SELECT count(*) FROM {roles.SCHEMA}.{t})" for t in tables),
        database=roles.DATABASE,
    )
    rows = dict(zip(tables, map(int, counted.strip().split("|")), strict=True))
    users, activities = read_through(url)
    if rows["users"] and not users:
        raise CheckFailed(f"{rows['users']} users are there, and the data access lists none")
    return f"{users} users read, {activities} activities in their feeds", rows


def read_through(url: str) -> tuple[int, int]:
    """Read users and their feeds through the data access; how many of each."""
    from cache.settings import CacheSettings
    from cache.url_source import UrlSource
    from db import DataAccess
    from db.errors import InvalidSetting
    from db.settings import DatabaseSettings

    settings = DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, url), pool_size=2)
    # No Redis: what is read must come from the restored rows.
    nowhere = CacheSettings(UrlSource("REDIS_URL", InvalidSetting, "redis://127.0.0.1:1/0"), near_entries=0)
    logging.getLogger("groundwork.cache").setLevel(logging.CRITICAL)
    with DataAccess(settings, nowhere) as data:
        users = data.users.list(limit=20).items
        for user in users:
            if data.users.get(user.id) != user:
                raise CheckFailed(f"user {user.id} reads differently by id and in a list")
        return len(users), sum(len(data.activities.feed(user.id, limit=20).items) for user in users)


def _first_line(error: DockerError) -> str:
    return str(error).splitlines()[0].removeprefix("`docker exec` failed: ")
