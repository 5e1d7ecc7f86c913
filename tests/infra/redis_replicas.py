"""A stack whose Redis has replicas: its primary, and whether its access service is ready."""

from __future__ import annotations

import json
import urllib.request
from urllib.error import URLError

from infra.docker.engine import inspect
from infra.outputs import server_urls
from infra.spec.redis_replication import SERVER_NAMES
from tests.infra.checkout import CheckoutCopy


def environment(checkout: CheckoutCopy) -> dict[str, str]:
    """Return the variables that `groundwork env` prints for role app."""
    found: dict[str, str] = json.loads(checkout.succeed("env", "--role", "app", "--format", "json"))
    return found


def primary_of(checkout: CheckoutCopy) -> str:
    """Return the container of the present primary."""
    urls = environment(checkout)
    position = server_urls(urls["REDIS_URL"]).index(urls["REDIS_PRIMARY_URL"])
    return checkout.identity.name("dev", SERVER_NAMES[position])


def is_ready(checkout: CheckoutCopy) -> bool:
    """Return whether the access service answers /readyz with 200."""
    access = inspect("container", checkout.identity.name("dev", "access"))[0]
    (binding,) = access["NetworkSettings"]["Ports"]["8080/tcp"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{binding['HostPort']}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (URLError, TimeoutError):
        return False
