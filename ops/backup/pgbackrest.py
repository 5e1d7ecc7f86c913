"""Runs pgBackRest inside a container, and makes one line of what it complains about."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from infra.spec import backup, backup_repository
from ops.backup.errors import BackupError
from ops.errors import Exit, OpsError

Progress = Callable[[str], None]
_LINE = re.compile(r"^(?:P\d+ +)?(?P<level>[A-Z]+): +(?P<text>.*)$")
_ERROR = re.compile(r"^\[(?P<code>\d{3})\]: (?P<text>.*)$")
_LOCK_ACQUIRE = "050"
NO_ROOM = (
    f"no space is left for the backup repository ({backup_repository.FOLDER}); free some on the machine, or lower"
    " groundwork:backupRetentionFull, and run it again"
)
NO_ROOM_FOR_DATA = (
    "no space is left for the data volume, which holds the old and the restored data for a while; free some on the"
    " machine, and run it again"
)
# pgBackRest's own numbers for a repository without a backup that is whole, and for what has no number of its own.
_NO_VALID_BACKUP, _OTHER = 2, 99
_OTHER_CLUSTER = ("028", "044", "051")


def run(container: str, command: str, *options: str, progress: Progress | None = None) -> str:
    """Run `pgbackrest COMMAND` in a container; returns its standard output.

    Its own information goes to `progress`, line by line. BackupError carries the reason in one line.
    """
    process = subprocess.Popen(
        [
            *("docker", "exec", container, *backup.PGBACKREST.split()),
            *(["--log-level-stderr=info"] if progress else []),
            *(*options, command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    assert process.stdout is not None
    said: list[str] = []
    with process:
        # Without progress there is one line at most there before the output, which a pipe's buffer holds.
        for line in process.stderr:
            said.append(line.rstrip())
            found = _LINE.match(line.rstrip())
            if progress and found and found["level"] in ("INFO", "WARN") and "command " not in found["text"]:
                progress(found["text"])
        output = process.stdout.read()
    if process.returncode != 0:
        raise _error(command, container, said)
    return output


def trouble(stanza: Mapping[str, Any]) -> str | None:
    """Why the repository cannot be read, in one line, as `info --output=json` has it of a stanza; None where it can."""
    status = stanza["status"]
    if status["code"] in (0, _NO_VALID_BACKUP):
        return None
    if status["code"] != _OTHER:
        return str(status["message"])
    # The stanza's own message is `other`; the repository's has a line for each file that was tried.
    said = str(stanza["repo"][0]["status"]["message"]).splitlines()
    if said[0].startswith(("[FormatError]", "[CryptoError]")):
        return "it was written with another key than the stack's, or is damaged"
    reason = next((line for line in said if line.startswith("FileOpenError: ")), said[0])
    return re.sub(r"^(FileOpenError: |\[\w+\] )", "", reason)


def _error(command: str, container: str, said: list[str]) -> OpsError:
    whole = "\n".join(said)
    if "No such container" in whole or "is not running" in whole:
        return OpsError(
            f"container {container} does not run; `groundwork status` shows what does", Exit.UNREACHABLE
        )
    if "No space left on device" in whole:
        return BackupError(NO_ROOM_FOR_DATA if command == "restore" else NO_ROOM)
    for line in said:
        found = _LINE.match(line)
        error = _ERROR.match(found["text"]) if found and found["level"] == "ERROR" else None
        if error is None:
            continue
        if error["code"] == _LOCK_ACQUIRE:
            return OpsError("a backup is being made already; wait for it to end", Exit.LOCKED)
        if error["code"] in _OTHER_CLUSTER:
            return BackupError(
                "the repository holds the backups of another cluster than the one that runs now;"
                " `groundwork restore --to LATEST` brings that one back"
            )
        text = re.sub(r"^raised from [\w-]+ protocol: ", "", error["text"])
        return BackupError(f"`pgbackrest {command}` failed: {text}")
    return BackupError(f"`pgbackrest {command}` failed: {said[-1] if said else 'no reason given'}")
