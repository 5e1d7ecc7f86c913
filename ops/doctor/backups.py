"""How old the newest backup is, as pgBackRest in the Postgres container tells it."""

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
_UNREADABLE = (
    "nothing can be restored as it is: bring its volume and its key back from where they were copied to, or move what"
    " is in it aside, `groundwork up`, and `groundwork backup --full`"
)


def backups(examination: Examination) -> Finding:
    """backups: the age of the newest, and whether the repository is whole."""
    container = examination.stack.postgres_container
    if container is None:
        return skipped("no container to ask; the managed service keeps them")
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
