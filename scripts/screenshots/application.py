"""The application on the screenshots. It runs in a container of a stack's data network until it is killed.

It reads users, repositories and feeds, some of them much more often than others, and writes now and then. Prometheus
scrapes it at port 9000.
"""

from __future__ import annotations

import math
import random
import time
from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace
from prometheus_client import start_http_server

from db import DataAccess
from db.errors import DbError
from db.models import NewActivity

# Every how many seconds the traffic is strongest.
_WAVE_SECONDS = 150
# What `groundwork seed` creates.
_USERS, _REPOSITORIES = 300, 400


def _one_of(count: int) -> int:
    return min(int(random.paretovariate(0.4)), count)


def _turn(data: DataAccess) -> None:
    user = data.users.find(_one_of(_USERS))
    data.repositories.find(_one_of(_REPOSITORIES))
    data.activities.feed(_one_of(_USERS))
    if user is not None and random.random() < 0.05:
        data.users.update(replace(user, preferences={"seen": f"{datetime.now(UTC):%H:%M:%S}"}))
    if user is not None and random.random() < 0.1:
        data.activities.add(NewActivity(user_id=user.id, type="PushEvent", timestamp=datetime.now(UTC)))


def main() -> None:
    start_http_server(9000)
    with DataAccess.open() as data:
        while True:
            # A busy machine may be slow.
            with suppress(DbError):
                _turn(data)
            strength = 1.2 + math.sin(2 * math.pi * time.monotonic() / _WAVE_SECONDS)
            time.sleep(0.01 / strength)


if __name__ == "__main__":
    main()
