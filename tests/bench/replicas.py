"""Compare a read from a replica with the same read from the primary: with and without asking the replica first."""

from __future__ import annotations

from typing import Any

from cache.url_source import UrlSource
from db import DataAccess
from db.errors import InvalidSetting
from db.migrator import apply_pending, read_source
from db.models import NewUser
from infra.spec.roles import DATABASE
from tests.bench.result import Result
from tests.bench.servers import CALLS
from tests.bench.turns import take_turns
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, database_settings, replica_reads
from tests.replica import replicated_postgres


def measure_replicas() -> list[Result]:
    with replicated_postgres() as pair:
        apply_pending(pair.primary.database_url("migrator"), read_source())
        # Both by the container's address, because the replica's port is not published.
        settings = database_settings(
            pair.url("app_a", DATABASE, servers="primary"),
            read_url=UrlSource("DATABASE_READ_URL", InvalidSetting, pair.url("app_a", DATABASE)),
        )
        nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
        with DataAccess(settings, nowhere) as data:
            user = data.users.add(NewUser(github_id=7, username="made up"))

            def read() -> Any:
                return data.users.find_by_github_id(7)

            def read_from_replica() -> Any:
                with data.reading():
                    return read()

            def read_after_a_write() -> Any:
                # As after a write of this process: the primary and the replica are asked first.
                data.pool.replicas.positions._last_write = object()
                return read_from_replica()

            wait_until(lambda: read_from_replica() == user and replica_reads("replica") > 0)
            known = take_turns(read_from_replica, read, CALLS)
            asked = take_turns(read_after_a_write, read, CALLS)
    return [
        Result("read from a replica / the same from the primary", known.ratios(), "x", at_most=1.3),
        Result(
            "read from a replica after a write / the same from the primary", asked.ratios(), "x", at_most=4
        ),
    ]
