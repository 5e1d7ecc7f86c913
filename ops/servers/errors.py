"""Errors of querying a server: it cannot be reached, or it does not answer this query."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ops.errors import Exit, OpsError


class ServerUnreachable(OpsError):
    """A server does not answer, is not trusted, or rejects the login. `servers` has the state of each of several."""

    exit_code = Exit.UNREACHABLE
    servers: Mapping[str, str] = MappingProxyType({})


class NotVisible(OpsError):
    """No available role can make this query: the stack's target does not allow it, or `docker exec` fails."""


class TooSlow(OpsError):
    """A server that is otherwise healthy cancelled this query because it took too long."""


def one_line(said: object) -> str:
    """Return a driver's or a program's message without line breaks."""
    return " ".join(str(said).split())
