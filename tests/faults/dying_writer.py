"""A writer that is killed after COMMIT, just before it would update the cache.

python -m tests.faults.dying_writer FLAVOUR VERB USER_ID NAMESPACE   (DATABASE_URL, REDIS_URL)
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from msgspec.structs import replace

from db.models import NewUser
from tests.integration.data_access import cache_settings, data_access, database_settings


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


def write(data: Any, verb: str, user_id: int) -> None:
    user = data.users.get(user_id)
    # A repository calls one of these two after its statement is committed.
    cached = data.users.cached
    cached = getattr(cached, "_target", cached)
    cached.replace = cached.drop = die
    if verb == "update":
        data.users.update(replace(user, username="after"))
    elif verb == "upsert":
        data.users.upsert(NewUser(github_id=user.github_id, username="after"))
    else:
        data.users.delete(user_id)


if __name__ == "__main__":
    flavour, verb, user_id, namespace = sys.argv[1:]
    database = database_settings(os.environ["DATABASE_URL"])
    cache = cache_settings(os.environ["REDIS_URL"], namespace)
    with data_access(flavour, database, cache) as data:
        write(data, verb, int(user_id))
