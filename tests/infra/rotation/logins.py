"""The current logins of the live stack's roles, and whether a login still works."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import redis

from infra import outputs
from infra.spec.checkout import Checkout
from ops.stack.pulumi_stack import PulumiStack
from tests.infra.conftest import STACK


def all_urls() -> dict[str, dict[str, str]]:
    """Return role -> current output of `groundwork env`."""
    values = PulumiStack(Checkout.here(), STACK).outputs()
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
        with psycopg.connect(url, connect_timeout=30):
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
