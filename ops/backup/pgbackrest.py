"""Run pgBackRest in a container, and reduce its errors to one line."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from infra.docker.engine import DockerError, docker
from infra.docker.members import stack_of
from infra.spec import backup, backup_repository
from ops.backup.errors import BackupError
from ops.errors import Exit, OpsError

Progress = Callable[[str], None]
_LINE = re.compile(r"^(?:P\d+ +)?(?P<level>[A-Z]+): +(?P<text>.*)$")
_ERROR = re.compile(r"^\[(?P<code>\d{3})\]: (?P<text>.*)$")
_LOCK_ACQUIRE = "050"
NO_ROOM = (
    f"no space is left for the backup repository ({backup_repository.FOLDER}); free disk space, then run the"
    " command again; a lower groundwork:backupRetentionFull keeps fewer backups after that"
)
NO_ROOM_FOR_DATA = (
    "no space is left for the restored data, which a restore writes to the data volume beside the old data, and a drill"
    " to a temporary volume; free disk space, then run the command again"
)
# pgBackRest's status codes for a repository without a complete backup, and for other problems.
_NO_VALID_BACKUP, _OTHER = 2, 99
_OTHER_CLUSTER = ("028", "044", "051")
# Stops the processes with a variable in their environment, and waits up to 10 s for them. `docker exec` forwards no
# signal.
_STOP = r"""
found() {
    for each in /proc/[0-9]*; do
        if tr '\0' '\n' 2>/dev/null <"$each/environ" | grep -qxF "$1"; then echo "${each#/proc/}"; fi
    done
}
kill $(found "$1")
for _ in $(seq 50); do if [ -z "$(found "$1")" ]; then exit; fi; sleep 0.2; done
"""


def run(container: str, command: str, *options: str, progress: Progress | None = None) -> str:
    """Run `pgbackrest COMMAND` in a container, and return its standard output.

    Its INFO and WARN messages go to `progress`, line by line. Raise BackupError with the reason in one line. If this
    process is stopped, pgBackRest is stopped too.
    """
    mark = f"GROUNDWORK_RUN={uuid.uuid4().hex}"
    process = subprocess.Popen(
        [
            *("docker", "exec", "--env", mark, container, *backup.PGBACKREST.split()),
            *(["--log-level-stderr=info"] if progress else []),
            *(*options, command),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    with process:
        try:
            output = _follow(process, said, progress)
        except BaseException:
            process.kill()
            with suppress(DockerError):
                docker("exec", container, "sh", "-c", _STOP, "sh", mark, timeout_seconds=30)
            raise
    if process.returncode != 0:
        raise _error(command, container, said)
    return output


def _follow(process: subprocess.Popen[str], said: list[str], progress: Progress | None) -> str:
    """Read what pgBackRest prints until it ends. Append the lines of stderr to `said`, and return its output."""
    assert process.stderr is not None
    assert process.stdout is not None
    # Without progress, stderr has at most a few lines before the output starts, which fit in the pipe's buffer.
    for line in process.stderr:
        said.append(line.rstrip())
        found = _LINE.match(line.rstrip())
        if progress and found and found["level"] in ("INFO", "WARN") and "command " not in found["text"]:
            progress(found["text"])
    return process.stdout.read()


def archive(container: str, path: str, data: str = backup.PGDATA) -> None:
    """Archive a file of WAL or a history for the cluster of a data folder. An identical file may already be archived.

    Raise DockerError with pgBackRest's reason.
    """
    # If more WAL than the queue's limit waits, pgBackRest would drop the file as a success.
    options = (f"--pg1-path={data}", "--reset-archive-push-queue-max")
    docker("exec", container, *backup.PGBACKREST.split(), *options, "archive-push", path)


def trouble(stanza: Mapping[str, Any]) -> str | None:
    """Return why the repository cannot be read, from a stanza of `info --output=json`, or None if it can."""
    status = stanza["status"]
    if status["code"] in (0, _NO_VALID_BACKUP):
        return None
    if status["code"] != _OTHER:
        return str(status["message"])
    # The stanza's message is only `other`. The repository's has a line for each file that was tried.
    said = str(stanza["repo"][0]["status"]["message"]).splitlines()
    if said[0].startswith(("[FormatError]", "[CryptoError]")):
        return "it is damaged, or was written with another key than the stack's"
    reason = next((line for line in said if line.startswith("FileOpenError: ")), said[0])
    return re.sub(r"^(FileOpenError: |\[\w+\] )", "", reason)


def _error(command: str, container: str, said: list[str]) -> OpsError:
    whole = "\n".join(said)
    # A temporary container's name has no stack that it could be read from.
    option = f" --stack {stack}" if (stack := stack_of(container)) else ""
    if "No such container" in whole or "is not running" in whole:
        return OpsError(
            f"container {container} does not run; see `groundwork status{option}`", Exit.UNREACHABLE
        )
    if "No space left on device" in whole:
        return BackupError(NO_ROOM_FOR_DATA if command == "restore" else NO_ROOM)
    for line in said:
        found = _LINE.match(line)
        error = _ERROR.match(found["text"]) if found and found["level"] == "ERROR" else None
        if error is None:
            continue
        if error["code"] == _LOCK_ACQUIRE:
            return OpsError("another backup is in progress; wait until it has finished", Exit.LOCKED)
        if error["code"] in _OTHER_CLUSTER:
            return BackupError(
                "the repository contains the backups of another cluster than the running one;"
                f" restore that cluster with `groundwork restore --to LATEST{option}`"
            )
        text = re.sub(r"^raised from [\w-]+ protocol: ", "", error["text"])
        return BackupError(f"`pgbackrest {command}` failed: {text}")
    return BackupError(f"`pgbackrest {command}` failed: {said[-1] if said else 'no reason given'}")
