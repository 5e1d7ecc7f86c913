"""What a check is given: the stack, the servers as they may be seen, the thresholds, and this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from ops.doctor.finding import Finding
from ops.doctor.thresholds import Thresholds
from ops.monitored_postgres import MonitoredPostgres
from ops.monitored_redis import MonitoredRedis
from ops.monitored_stack import MonitoredStack


class Server(StrEnum):
    """Whom a check asks. Checks of one server come one after the other, servers beside one another."""

    POSTGRES = "Postgres"
    REDIS = "Redis"
    OTHERS = "others"


@dataclass
class Examination:
    """One run over one stack."""

    stack: MonitoredStack
    thresholds: Thresholds = field(default_factory=Thresholds)
    # This machine's time, in seconds since 1970.
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.postgres = MonitoredPostgres(self.stack)
        self.redis = MonitoredRedis(self.stack)

    def close(self) -> None:
        self.postgres.close()
        self.redis.close()


@dataclass(frozen=True)
class Check:
    """A named question to one server. `reaches` marks the one that fails where the server is not reached."""

    name: str
    server: Server
    examine: Callable[[Examination], Finding]
    reaches: bool = False
