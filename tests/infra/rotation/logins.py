"""What the live stack's roles log in with now, and whether it still gets them in."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import redis

from infra import outputs
from infra.spec.world import World
from ops.pulumi_stack import PulumiStack
from tests.infra.conftest import STACK


def all_urls() -> dict[str, dict[str, str]]:
    """role -> what `groundwork env` prints for it now."""
    values = PulumiStack(World.here(), STACK).outputs()
    named = {"DATABASE_URL": values[outputs.DATABASE_URLS], "REDIS_URL": values[outputs.REDIS_URLS]}
    return {
        role: {name: urls[role] for name, urls in named.items() if role in urls} for role in outputs.ROLES
    }


def urls_of_app() -> dict[str, str]:
    return all_urls()["app"]


def login_of(urls: dict[str, str]) -> str:
    return str(urlsplit(urls["DATABASE_URL"]).username)


def gets_in(urls: dict[str, str]) -> dict[str, bool]:
    def postgres(url: str) -> None:
        with psycopg.connect(url, connect_timeout=10):
            pass

    def cache(url: str) -> None:
        with redis.Redis.from_url(url, driver_info=None) as client:
            client.ping()

    ways = {"DATABASE_URL": postgres, "REDIS_URL": cache}
    return {name: _succeeds(ways[name], url) for name, url in urls.items()}


def _succeeds(action: Callable[[str], None], url: str) -> bool:
    try:
        action(url)
    except (psycopg.OperationalError, redis.AuthenticationError):
        return False
    return True
