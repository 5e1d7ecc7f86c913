"""A Celery worker that changes users. Its pool forks processes, and each of them gets its own connections.

Run it with `celery --app tasks worker --concurrency 2`. Set CELERY_BROKER_URL to the URL of the broker.
"""

from __future__ import annotations

import atexit

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from groundwork_client import DataAccess, errors
from msgspec.structs import replace

app = Celery("tasks")
data = DataAccess.open().connect()
atexit.register(data.close)


@app.task(
    autoretry_for=(errors.Unavailable, errors.VersionConflict),
    max_retries=5,
    retry_backoff=True,
    soft_time_limit=30,
)
def rename(user_id: int, username: str) -> int:
    """Rename a user and return the new row version. Celery can send errors of the data access to the caller."""
    try:
        user = data.users.get(user_id)
        return data.users.update(replace(user, username=username)).row_version
    except SoftTimeLimitExceeded:
        # Nothing to clean up: the interrupted call has released its connection. The next task works as usual.
        raise
