"""pgBackRest's configuration, and the Postgres parameters for archiving.

The archiving server and every restore use the same configuration.
"""

from __future__ import annotations

from infra.spec.backup_repository import FOLDER, STANZA
from infra.spec.postgres import CONFIG_DIR, DATA_DIR, SOCKET_DIR

CONFIG_FILE = f"{CONFIG_DIR}/pgbackrest.conf"
PGDATA = f"{DATA_DIR}/15"
# A commit reaches the repository within this time, plus the time to archive one segment.
ARCHIVE_TIMEOUT_SECONDS = 30

PGBACKREST = f"pgbackrest --config={CONFIG_FILE} --stanza={STANZA}"
# Postgres takes any exit status up to 125 for "no such file", and then ends the recovery as a success. pgBackRest exits
# with 1 if the file does not exist. Any other failure (a damaged file, a wrong key) must stop the recovery.
RESTORE_COMMAND = f'{PGBACKREST} archive-get %f "%p" || {{ [ $? -eq 1 ] && exit 1; exit 255; }}'


def archive_parameters() -> dict[str, str]:
    """Return the additional parameters of a server that archives its WAL."""
    return {
        "archive_mode": "on",
        "archive_command": f"{PGBACKREST} archive-push %p",
        "archive_timeout": f"{ARCHIVE_TIMEOUT_SECONDS}s",
    }


def render_conf(*, cipher_pass: str, retention_full: int, queue_max_bytes: int) -> str:
    """Render pgbackrest.conf. It contains the repository's key, so the whole text is a secret.

    `retention_full` is the number of full backups to keep, with the backups that depend on them. When more than
    `queue_max_bytes` of WAL cannot be archived, pgBackRest drops WAL so that the server's disk does not fill.
    """
    return f"""\
[global]
repo1-path={FOLDER}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={cipher_pass}
repo1-bundle=y
repo1-retention-full={retention_full}
archive-push-queue-max={queue_max_bytes}
archive-timeout=60
compress-type=zst
start-fast=y
lock-path=/tmp/pgbackrest
log-level-console=off
log-level-file=off
log-level-stderr=warn
log-timestamp=n

[{STANZA}]
pg1-path={PGDATA}
pg1-socket-path={SOCKET_DIR}
"""
