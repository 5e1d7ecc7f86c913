"""A stack as its outputs say that it can be reached, wherever it runs: connections as its roles, and no container."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from infra import outputs


@dataclass(frozen=True)
class Reached:
    """Every assertion on it holds on Docker and on AWS, or says why it differs (docs/parity.md)."""

    outputs: dict[str, Any]

    @property
    def is_on_aws(self) -> bool:
        return bool(self.outputs[outputs.TARGET] == "aws")

    @property
    def expected(self) -> dict[str, Any]:
        expected: dict[str, Any] = self.outputs[outputs.EXPECTED]
        return expected

    def conninfo(self, role: str) -> str:
        """Of a role in Postgres; on AWS with a token, signed by the credentials of whoever runs this."""
        url: str = self.outputs[outputs.DATABASE_URLS][role]
        if outputs.LOGIN_ENVIRONMENT not in self.outputs:
            return url
        from db.settings import DatabaseSettings

        environment = {**self.outputs[outputs.LOGIN_ENVIRONMENT], "DATABASE_URL": url}
        return DatabaseSettings.from_environment(environment).unbounded_conninfo()

    def postgres(self, role: str, **changed: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.conninfo(role), connect_timeout=10, **changed)

    def redis(self, user: str, ca_file: Path | None = None) -> redis.Redis:
        """As a user of Redis; `ca_file` in place of the authority that the URL names."""
        url: str = self.outputs[outputs.REDIS_URLS][user]
        if ca_file is not None:
            # What a URL says wins over redis-py's arguments.
            url = re.sub(r"ssl_ca_certs=[^&]*", f"ssl_ca_certs={ca_file}", url)
        options: dict[str, Any] = {"driver_info": None, "decode_responses": True, "socket_timeout": 10}
        if outputs.LOGIN_ENVIRONMENT in self.outputs:
            from cache.settings import CacheSettings

            environment = {**self.outputs[outputs.LOGIN_ENVIRONMENT], "REDIS_URL": url}
            settings = CacheSettings.from_environment(environment)
            url = settings.server_url()
            options["username"], options["password"] = settings.credentials()
        return redis.Redis.from_url(url, **options)
