"""Connection strings of a stack's roles, from the stack outputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from infra import outputs
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.roles import DATABASE
from ops.errors import Exit, OpsError
from ops.output import print_line
from ops.stack.pulumi_stack import PulumiStack

ROLE_NAMES = tuple(outputs.ROLES)


def environment_of(role: str, stack: str, *, tokens: bool = False) -> dict[str, str]:
    """Return the URLs of a role: DATABASE_URL, DATABASE_READ_URL and REDIS_URL, without those that it does not have.

    On AWS also the variables that a login needs, and with `tokens` GROUNDWORK_TOKEN_KEYS. The outputs are decrypted
    once, because that takes longer than the rest.
    """
    if role not in outputs.ROLES:
        raise OpsError(f"unknown role {role!r}; choose one of {', '.join(ROLE_NAMES)}", Exit.USAGE)
    values = PulumiStack(Checkout.here(), stack).outputs()
    found = {
        "DATABASE_URL": values[outputs.DATABASE_URLS].get(role),
        "DATABASE_READ_URL": values.get(outputs.DATABASE_READ_URLS, {}).get(role),
        "REDIS_URL": values[outputs.REDIS_URLS].get(role),
        **values.get(outputs.LOGIN_ENVIRONMENT, {}),
    }
    if tokens:
        from db.token_keys import VARIABLE

        found[VARIABLE] = _token_keys(values, stack)
    return {name: value for name, value in found.items() if value is not None}


def stack_of_redis(addresses: Collection[str]) -> str | None:
    """Return the stack of this checkout whose Redis has one of these addresses (host:port), or None.

    A stack whose state cannot be read is left out.
    """
    checkout = Checkout.here()
    for name in checkout.stacks():
        with suppress(FileNotFoundError, InfraError, OpsError):
            values = PulumiStack(checkout, name).public_outputs()
            if outputs.REDIS in values and any(
                f"{host}:{port}" in addresses for host, port in outputs.redis_addresses(values)
            ):
                return name
    return None


def primaries_of(values: Mapping[str, str], stack: str) -> dict[str, str]:
    """Return DATABASE_PRIMARY_URL and REDIS_PRIMARY_URL for the URLs of a role of the stack.

    They are for clients that accept no list of servers. Leaves out each whose server has no replicas, or has no
    primary now.
    """
    named = ((name, values.get(f"{name}_URL")) for name in ("DATABASE", "REDIS"))
    lists = [(name, url) for name, url in named if url and len(outputs.server_urls(url)) > 1]
    if not lists:
        # Most stacks have no replicas, and the drivers take longer to import than the rest of the command.
        return {}
    from ops.servers.errors import ServerUnreachable
    from ops.servers.postgres_primary import primary_database_url
    from ops.servers.redis_primary import primary_url

    find = {"DATABASE": primary_database_url, "REDIS": primary_url}
    found = {}
    for name, url in lists:
        try:
            found[f"{name}_PRIMARY_URL"] = find[name](url, stack)
        except ServerUnreachable as error:
            print_line(f"without {name}_PRIMARY_URL: {error}", err=True)
    return found


def token_keys_of(stack: str) -> str:
    """Return GROUNDWORK_TOKEN_KEYS of a stack. Raise OpsError if the stack is older than token encryption."""
    return _token_keys(PulumiStack(Checkout.here(), stack).outputs(), stack)


def _token_keys(values: Mapping[str, Any], stack: str) -> str:
    keys = values.get(outputs.TOKEN_KEYS)
    if not keys:
        raise OpsError(
            f"stack {stack!r} has no token keys yet; run `groundwork up --stack {stack}`", Exit.UNREACHABLE
        )
    return str(keys)


def database_url(*, role: str, stack: str) -> str:
    """Return a role's connection string, on AWS with a token that is valid for 15 minutes.

    Raise OpsError if the stack is not up or the role has no database login.
    """
    from ops.stack.database_url import with_token

    environment = environment_of(role, stack)
    if "DATABASE_URL" not in environment:
        raise OpsError(f"role {role!r} has no login in Postgres; choose another role", Exit.USAGE)
    return with_token(environment["DATABASE_URL"], environment)


def describe_database(stack: str, role: str) -> str:
    """Describe the database of a stack that a command is going to change as `role`, which need not have a URL."""
    target = PulumiStack(Checkout.here(), stack)
    place = target.public_outputs().get(outputs.POSTGRES) if target.exists else None
    where = "a new server" if place is None else f"{place['host']}:{place['port']}"
    return f"{where}/{DATABASE} as {role}, from stack {stack!r}"


def access_url(stack: str) -> str:
    """Return the URL of the stack's access service, as seen from this machine."""
    return str(PulumiStack(Checkout.here(), stack).public_outputs()[outputs.ACCESS_URL])
