"""A Celery worker that changes users. Its prefork pool forks processes, and each has connections of its own.

Run it with `celery --app tasks worker --concurrency 2`. CELERY_BROKER_URL names the broker.
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
    """Rename a user, and return the new row version. Errors of the data access can be sent to the caller."""
    try:
        user = data.users.get(user_id)
        return data.users.update(replace(user, username=username)).row_version
    except SoftTimeLimitExceeded:
        # The interrupted call has returned its connection, and the worker continues with the next task.
        raise
