"""The input of a check: the stack, read-only access to its servers, the thresholds, and this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ops.doctor.check_result import CheckResult
from ops.doctor.thresholds import Thresholds
from ops.servers.monitored_postgres import MonitoredPostgres
from ops.servers.monitored_redis import MonitoredRedis
from ops.servers.monitored_stack import MonitoredStack


class CheckedServer(StrEnum):
    """The server that a check queries. Checks of one server run one after the other, servers run in parallel."""

    POSTGRES = "Postgres"
    REDIS = "Redis"
    OTHERS = "others"


@dataclass
class Examination:
    """One run of checks on one stack."""

    stack: MonitoredStack
    thresholds: Thresholds = field(default_factory=Thresholds)
    # Returns this machine's time in seconds since 1970.
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.postgres = MonitoredPostgres(self.stack)
        url = self.stack.migrator_url
        self.migrator = None if url is None else MonitoredPostgres(replace(self.stack, database_url=url))
        self.redis = MonitoredRedis(self.stack)

    def close(self) -> None:
        self.postgres.close()
        if self.migrator is not None:
            self.migrator.close()
        self.redis.close()


@dataclass(frozen=True)
class Check:
    """A named check of one server. `reaches` marks the check that fails if the server cannot be reached."""

    name: str
    server: CheckedServer
    examine: Callable[[Examination], CheckResult]
    reaches: bool = False
