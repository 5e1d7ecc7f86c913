"""How old the newest backup is: by pgBackRest in the Postgres container, or by RDS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from infra.docker.engine import DockerError, docker
from infra.spec.backup import CONFIG_FILE, PGBACKREST
from ops.backup.pgbackrest import trouble
from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, fail, judged, level, skipped, warn
from ops.doctor.thresholds import Thresholds
from ops.server_errors import one_line

_SECONDS = 8.0
_NONE = "no backups are set up"
_ADVICE = "see why the last ones failed (`groundwork backup list`), and make one now (`groundwork backup`)"
_RDS_ADVICE = (
    "see RDS's events; who asks needs rds:DescribeDBInstances and rds:DescribeDBInstanceAutomatedBackups"
)
_UNREADABLE = (
    "nothing can be restored as it is: bring its volume and its key back from where they were copied to, or move what"
    " is in it aside, `groundwork up`, and `groundwork backup --full`"
)


def backups(examination: Examination) -> Finding:
    """backups: the age of the newest, and whether the repository is whole."""
    container = examination.stack.postgres_container
    if container is None:
        return _of_rds(examination)
    try:
        # Where the setting is off, there is nothing to ask by.
        text = docker(
            *("exec", container, "sh", "-c"),
            f"[ -e {CONFIG_FILE} ] || exit 0; exec {PGBACKREST} --output=json info",
            timeout_seconds=_SECONDS,
        )
    except DockerError as error:
        return fail(f"pgBackRest does not answer: {one_line(error)}", _ADVICE)
    if not text.strip():
        return skipped(_NONE)
    # Its error messages have line ends in them as they are.
    return judge(json.loads(text, strict=False), examination.now(), examination.thresholds)


def _of_rds(examination: Examination) -> Finding:
    """Its own log of changes counts, which it uploads every five minutes: the daily snapshots are older."""
    if examination.stack.rds_instance is None:
        return skipped("no container to ask, and no instance of RDS")
    from ops.backup.errors import BackupError
    from ops.backup.rds import Instance
    from ops.errors import OpsError

    region, name = examination.stack.rds_instance
    try:
        oldest, newest = Instance.at(region, name, examination.stack.name, _SECONDS).window()
    except BackupError as error:
        return fail(one_line(error), _RDS_ADVICE)
    except OpsError as error:
        # Inside a VPC without a way out there are the servers, and no RDS to be asked about them.
        return skipped(one_line(error), "ask from where AWS is reached: `groundwork backup list`")
    limits, age = examination.thresholds, examination.now() - newest.timestamp()
    return judged(
        level(age, limits.restorable_warn, limits.restorable_fail),
        f"the newest restorable moment is {age / 60:.0f} minutes old,"
        f" the oldest {(newest - oldest).days} days before it",
        _RDS_ADVICE,
    )


def judge(stanzas: Sequence[Mapping[str, Any]], now: float, limits: Thresholds) -> Finding:
    """What `pgbackrest info --output=json` means at the time `now` (seconds since 1970)."""
    if not stanzas:
        return skipped(_NONE)
    broken = [f"the repository cannot be read: {reason}" for stanza in stanzas if (reason := trouble(stanza))]
    if broken:
        return fail("; ".join(broken), _UNREADABLE)
    whole = [
        (backup["timestamp"]["stop"], backup["label"])
        for stanza in stanzas
        for backup in stanza["backup"]
        if not backup.get("error")
    ]
    if not whole:
        # So is a new stack's: WAL alone restores nothing.
        return warn("there is none yet that is whole", "make one now (`groundwork backup`)")
    stopped, label = max(whole)
    hours = (now - stopped) / 3600
    return judged(
        level(hours, limits.backup_hours_warn, limits.backup_hours_fail),
        f"the newest, {label}, is {hours:.0f} hours old; there are {len(whole)}",
        _ADVICE,
    )
