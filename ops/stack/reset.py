"""Reset a development stack: drop its schema, apply its migrations, load the sample data, and flush its cache.

Nothing else may be reset: not a stack on AWS, not one that is protected or named like staging or production, and not
another database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from db.migrator import LockLimits, Migration, OnEvent
from infra import outputs
from infra.settings import AWS
from infra.spec.checkout import Checkout
from infra.spec.variables import variable
from ops.consent import production_name
from ops.errors import Exit, OpsError
from ops.stack.database_url import SelectedDatabase
from ops.stack.pulumi_stack import PulumiStack

_STAGING = re.compile(r"(?<![a-z])(staging|stage|stg|preprod)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Reset:
    """What a reset did: numbers of dropped objects, of applied migrations, and of inserted sample rows."""

    dropped: int
    applied: int
    rows: int


@dataclass(frozen=True)
class ResettableStack:
    """A development stack that is up: the URLs of migrator, of app and, for Redis, of ops."""

    name: str
    migrator_url: str = field(repr=False)
    app_url: str = field(repr=False)
    redis_url: str = field(repr=False)

    @property
    def database(self) -> SelectedDatabase:
        return SelectedDatabase(self.migrator_url, f"stack {self.name!r}")


def require_resettable(checkout: Checkout, stack: str, url: str | None) -> ResettableStack:
    """Return the stack. Raise OpsError (7) unless it is a development stack.

    `url` and DATABASE_URL, if given, must lead to the stack's own database.
    """
    from ops.backup.workbench import refuse_during_restore

    target = PulumiStack(checkout, stack)
    settings = target.check_settings()
    if settings.target == AWS:
        raise _refusal(stack, "is on AWS")
    if production_name([stack]) or _STAGING.search(stack):
        raise _refusal(stack, "has a name like staging or production")
    if settings.protect_data:
        raise _refusal(stack, "has protected data (groundwork:protectData)")
    target.refuse_another_state()
    refuse_during_restore(checkout, stack)
    # Once, because Pulumi takes a second to decrypt them.
    values = target.outputs()
    urls = values[outputs.DATABASE_URLS]
    for name, given in (("--url", url), ("DATABASE_URL", variable("DATABASE_URL"))):
        if given is not None and _place(given) != _place(urls["migrator"]):
            raise OpsError(
                f"{name} leads to another database than that of stack {stack!r}; reset only works on a stack's own"
                f" database: omit {name}",
                Exit.REFUSED,
            )
    return ResettableStack(stack, urls["migrator"], urls["app"], values[outputs.REDIS_URLS]["ops"])


def reset(
    stack: ResettableStack, migrations: Sequence[Migration], limits: LockLimits, on_event: OnEvent
) -> Reset:
    """Reset the stack. A run that was interrupted is completed by the next one."""
    from cache.errors import CacheSettingError
    from cache.flushing import invalidate_namespace
    from cache.settings import CacheSettings
    from db.migrator import apply_pending, drop_objects
    from db.seed import load_sample_data
    from ops.cache.server import connected

    dropped_variables = ("REDIS_URL", "REDIS_URL_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped_variables}
    environment |= {"REDIS_URL": stack.redis_url, "GROUNDWORK_NEAR_CACHE_ENTRIES": "0"}
    try:
        settings = CacheSettings.from_environment(environment)
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    with connected(settings, stack.name) as cache:
        # Before anything is dropped, because rows without a flush would be hidden by old cache entries.
        cache.redis.ping()
        dropped = drop_objects(stack.migrator_url, limits)
        applied = apply_pending(stack.migrator_url, migrations, limits=limits, on_event=on_event)
        loaded = load_sample_data(stack.app_url)
        invalidate_namespace(cache.redis, cache.namespace)
    return Reset(dropped, len(applied), sum(loaded.values()))


def _refusal(stack: str, why: str) -> OpsError:
    return OpsError(
        f"stack {stack!r} {why}; reset deletes all rows, and only works on a development stack in Docker",
        Exit.REFUSED,
    )


def _place(url: str) -> tuple[str, ...]:
    """Return host, port and database of a URL, with one name for this machine."""
    import psycopg

    from db.migrator.url import libpq_url

    try:
        given = psycopg.conninfo.conninfo_to_dict(libpq_url(url))
    except psycopg.ProgrammingError:
        return ("an invalid URL",)
    host = str(given.get("hostaddr") or given.get("host") or "")
    is_here = host in ("127.0.0.1", "::1", "localhost")
    return ("localhost" if is_here else host, str(given.get("port") or ""), str(given.get("dbname") or ""))
