"""The age of the newest backup and the WAL after it, from pgBackRest in the Postgres container or from RDS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.docker.engine import DockerError, docker
from infra.spec.backup import CONFIG_FILE, PGBACKREST
from ops.backup.pgbackrest import trouble
from ops.doctor.check_result import (
    STACK_OPTION,
    CheckResult,
    CheckStatus,
    counted,
    fail,
    judged,
    level,
    skipped,
    warn,
)
from ops.doctor.examination import Examination
from ops.doctor.thresholds import Thresholds
from ops.servers.errors import one_line

_SECONDS = 8.0
_LISTING_SECONDS = 300.0
_NONE = "backups are not set up"
_ADVICE = (
    f"check the last backups with `groundwork backup list{STACK_OPTION}`,"
    f" and take one now with `groundwork backup{STACK_OPTION}`"
)
_RDS_ADVICE = (
    "see RDS's events; reading the backups needs the permissions rds:DescribeDBInstances and"
    " rds:DescribeDBInstanceAutomatedBackups"
)
_UNREADABLE = (
    "nothing can be restored from this repository: bring back its volume and its key from a copy, or move its content"
    f" aside, run `groundwork up{STACK_OPTION}` and `groundwork backup --full{STACK_OPTION}`"
)
_DAMAGED = (
    f"the server's data is damaged: `groundwork backup{STACK_OPTION}` names the tables, and docs/backup.md, Damaged"
    " pages, says what to do"
)


def backups(examination: Examination) -> CheckResult:
    """backups: check the age of the newest backup, that the repository is readable, and that its WAL has no gap."""
    container = examination.stack.postgres_container
    if container is None:
        return _of_rds(examination)
    try:
        # Without the configuration file, backups are turned off by a setting.
        text = docker(
            *("exec", container, "sh", "-c"),
            f"[ -e {CONFIG_FILE} ] || exit 0; exec {PGBACKREST} --output=json info",
            timeout_seconds=_SECONDS,
        )
    except DockerError as error:
        return fail(f"pgBackRest does not answer: {one_line(error)}", _ADVICE)
    if not text.strip():
        return skipped(_NONE)
    # strict=False, because pgBackRest puts unescaped line breaks into its error messages.
    stanzas = json.loads(text, strict=False)
    found = judge(stanzas, examination.now(), examination.thresholds)
    if found.status in (CheckStatus.OK, CheckStatus.WARN):
        return _lost_wal(container, stanzas[0], examination.now()) or found
    return found


def _lost_wal(container: str, stanza: dict[str, Any], now: float) -> CheckResult | None:
    """Return a failure if WAL is missing after the newest backup. It remains one until the next backup."""
    from ops.backup import repository
    from ops.backup.errors import BackupError

    try:
        windows = repository.contents_of(container, stanza).windows()
    except (BackupError, DockerError) as error:
        return fail(f"cannot read the archived WAL: {one_line(error)}", _ADVICE)
    end = windows[-1].end if windows else None
    # A file that is archived while the folder is listed may be left out.
    if end is None or now - end.timestamp() < _LISTING_SECONDS:
        return None
    return fail(
        f"WAL is missing after {repository.show_time(end)}; nothing later can be restored until the next backup",
        f"take a backup now with `groundwork backup{STACK_OPTION}`; WAL is dropped when `backupQueueMax` is reached",
    )


def _of_rds(examination: Examination) -> CheckResult:
    """Check the newest restorable time, which RDS's log uploads advance every five minutes. Snapshots are daily."""
    if examination.stack.rds_instance is None:
        return skipped("the stack has neither a Postgres container nor an RDS instance")
    from ops.backup.errors import BackupError
    from ops.backup.rds import Instance
    from ops.errors import OpsError

    region, name = examination.stack.rds_instance
    try:
        oldest, newest = Instance.at(region, name, examination.stack.name, _SECONDS).window()
    except BackupError as error:
        return fail(one_line(error), _RDS_ADVICE)
    except OpsError as error:
        # In a VPC without internet access the servers can be reached, but not the RDS API.
        return skipped(
            one_line(error), f"run `groundwork backup list{STACK_OPTION}` on a machine that can reach AWS"
        )
    limits, age = examination.thresholds, examination.now() - newest.timestamp()
    return judged(
        level(age, limits.restorable_warn, limits.restorable_fail),
        f"the newest restorable time is {age / 60:.0f} minutes old,"
        f" the oldest {(newest - oldest).days} days before it",
        _RDS_ADVICE,
    )


def judge(stanzas: Sequence[Mapping[str, Any]], now: float, limits: Thresholds) -> CheckResult:
    """Evaluate the output of `pgbackrest info --output=json` at time `now` (seconds since 1970)."""
    if not stanzas:
        return skipped(_NONE)
    broken = [f"cannot read the repository: {reason}" for stanza in stanzas if (reason := trouble(stanza))]
    if broken:
        return fail("; ".join(broken), _UNREADABLE)
    found = [
        (backup["timestamp"]["stop"], backup["label"], bool(backup.get("error")))
        for stanza in stanzas
        for backup in stanza["backup"]
    ]
    if not found:
        # A new stack is in this state too: WAL alone cannot be restored.
        return warn("there is no complete backup yet", f"take one now with `groundwork backup{STACK_OPTION}`")
    stopped, label, is_damaged = max(found)
    if is_damaged:
        return fail(f"the newest backup, {label}, has pages with a wrong checksum", _DAMAGED)
    hours = (now - stopped) / 3600
    return judged(
        level(hours, limits.backup_hours_warn, limits.backup_hours_fail),
        f"the newest backup, {label}, is {counted(round(hours), 'hour')} old;"
        f" the repository has {counted(len(found), 'backup')}",
        _ADVICE,
    )
