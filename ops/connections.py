"""The connection strings of a stack's roles, as the stack's outputs give them."""

from __future__ import annotations

from infra import outputs
from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.pulumi_stack import PulumiStack

ROLE_NAMES = tuple(outputs.ROLES)


def environment_of(role: str, stack: str) -> dict[str, str]:
    """DATABASE_URL and REDIS_URL of a role; a role without one of the two leaves the key out."""
    if role not in outputs.ROLES:
        raise OpsError(f"there is no role {role!r}; there are: {', '.join(ROLE_NAMES)}", Exit.USAGE)
    values = PulumiStack(World.here(), stack).outputs()
    found = {
        "DATABASE_URL": values[outputs.DATABASE_URLS].get(role),
        "REDIS_URL": values[outputs.REDIS_URLS].get(role),
    }
    return {name: url for name, url in found.items() if url is not None}


def token_keys_of(stack: str) -> str:
    """GROUNDWORK_TOKEN_KEYS of a stack. OpsError where the stack is older than its keys."""
    keys = PulumiStack(World.here(), stack).outputs().get(outputs.TOKEN_KEYS)
    if not keys:
        raise OpsError(
            f"stack {stack!r} has no token keys yet; run `groundwork up --stack {stack}`", Exit.UNREACHABLE
        )
    return str(keys)


def database_url(*, role: str, stack: str) -> str:
    """A role's libpq URL. OpsError where the stack is not up or the role has no database login."""
    try:
        return environment_of(role, stack)["DATABASE_URL"]
    except KeyError:
        raise OpsError(f"role {role!r} has no login in Postgres", Exit.USAGE) from None


def access_url(stack: str) -> str:
    """Where the stack's access service listens, as seen from here."""
    return str(PulumiStack(World.here(), stack).public_outputs()[outputs.ACCESS_URL])
