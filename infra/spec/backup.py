"""Backups as data: pgBackRest's configuration, and Postgres's parameters for it.

Both the server that archives and whatever restores from the repository are configured from here.
"""

from __future__ import annotations

from infra.spec.backup_repository import FOLDER, STANZA
from infra.spec.postgres import CONFIG_DIR, DATA_DIR, SOCKET_DIR

CONFIG_FILE = f"{CONFIG_DIR}/pgbackrest.conf"
PGDATA = f"{DATA_DIR}/15"
# A commit is in the repository after this at the latest, and the time that one segment takes.
ARCHIVE_TIMEOUT_SECONDS = 30

PGBACKREST = f"pgbackrest --config={CONFIG_FILE} --stanza={STANZA}"
# To Postgres any exit status up to 125 means "there is no such file", at which recovery ends and calls it
# success. pgBackRest says 1 for that; anything else (a damaged file, a wrong key) must stop the recovery.
RESTORE_COMMAND = f'{PGBACKREST} archive-get %f "%p" || {{ [ $? -eq 1 ] && exit 1; exit 255; }}'


def archive_parameters() -> dict[str, str]:
    """What a server that archives has in postgresql.conf beside its other parameters."""
    return {
        "archive_mode": "on",
        "archive_command": f"{PGBACKREST} archive-push %p",
        "archive_timeout": f"{ARCHIVE_TIMEOUT_SECONDS}s",
    }


def render_conf(*, cipher_pass: str, retention_full: int, queue_max_bytes: int) -> str:
    """pgbackrest.conf. It holds the repository's key, so it is a secret as a whole.

    `retention_full` is how many full backups are kept, with what hangs on them. Beyond `queue_max_bytes` of
    WAL that could not be archived, WAL is given up so that the server's disk does not fill.
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
