"""Connections to a stack as its roles, from its outputs alone, on Docker or AWS."""

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
    """A stack under test. Every assertion is valid on Docker and AWS, or says why they differ (docs/parity.md)."""

    outputs: dict[str, Any]

    @property
    def is_on_aws(self) -> bool:
        return bool(self.outputs[outputs.TARGET] == "aws")

    @property
    def expected(self) -> dict[str, Any]:
        expected: dict[str, Any] = self.outputs[outputs.EXPECTED]
        return expected

    def conninfo(self, role: str) -> str:
        """Return the conninfo of a role in Postgres. On AWS it has a token, signed with the caller's credentials."""
        url: str = self.outputs[outputs.DATABASE_URLS][role]
        if outputs.LOGIN_ENVIRONMENT not in self.outputs:
            return url
        from db.settings import DatabaseSettings

        environment = {**self.outputs[outputs.LOGIN_ENVIRONMENT], "DATABASE_URL": url}
        given = psycopg.conninfo.conninfo_to_dict(
            DatabaseSettings.from_environment(environment).unbounded_conninfo()
        )
        # The role's own settings are checked, so the connection must not replace them.
        del given["options"]
        return psycopg.conninfo.make_conninfo("", **given)

    def postgres(self, role: str, **changed: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.conninfo(role), connect_timeout=30, **changed)

    def redis(self, user: str, ca_file: Path | None = None) -> redis.Redis:
        """Return a client for a user of Redis. `ca_file` replaces the CA that the URL names."""
        url: str = self.outputs[outputs.REDIS_URLS][user]
        if ca_file is not None:
            # Parameters of the URL take precedence over redis-py's arguments.
            url = re.sub(r"ssl_ca_certs=[^&]*", f"ssl_ca_certs={ca_file}", url)
        options: dict[str, Any] = {"driver_info": None, "decode_responses": True, "socket_timeout": 30}
        if outputs.LOGIN_ENVIRONMENT in self.outputs:
            from cache.settings import CacheSettings

            environment = {**self.outputs[outputs.LOGIN_ENVIRONMENT], "REDIS_URL": url}
            settings = CacheSettings.from_environment(environment)
            url = settings.server_urls()[0]
            options["username"], options["password"] = settings.credentials()
        return redis.Redis.from_url(url, **options)


def has_libraries(preloaded: str, wanted: str, *, others: bool) -> bool:
    """Return whether a server preloads the wanted libraries, and no others unless these are allowed."""
    found, needed = ({name.strip() for name in text.split(",")} for text in (preloaded, wanted))
    return needed <= found if others else needed == found
