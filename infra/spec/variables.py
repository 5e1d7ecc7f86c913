"""The environment variables that groundwork reads. One that is set but empty is refused.

`--stack "$STACK"` and `DATABASE_URL=$URL` are empty if the shell's variable is not set. That mistake must not select
the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from infra.spec.errors import InfraError

PREFIX = "GROUNDWORK_"
# The variables without the prefix.
_URLS = ("DATABASE_URL", "DATABASE_READ_URL", "REDIS_URL")
OTHERS = (*_URLS, *(f"{url}_FILE" for url in _URLS), "DOCKER_HOST", "DOCKER_CONTEXT")


class EmptyVariable(InfraError):
    """An environment variable is set but empty."""


def variable(
    name: str, environment: Mapping[str, str] | None = None, error: type[Exception] = EmptyVariable
) -> str | None:
    """Return a variable's value, or None if it is not set. Raises `error` if it is set but empty."""
    value = (os.environ if environment is None else environment).get(name)
    if value is not None and not value.strip():
        raise error(f"{name} is set but empty; unset it, or give it a value")
    return value


def source_variable(name: str) -> str | None:
    """Return which of the variables `name` and `name`_FILE is set, or None. Raises EmptyVariable."""
    return next((each for each in (name, f"{name}_FILE") if variable(each) is not None), None)


def refuse_empty_variables() -> None:
    """Raise EmptyVariable if any variable of groundwork is set but empty."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) or name in OTHERS:
            variable(name)
