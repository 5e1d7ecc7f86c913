"""Why a server could not be asked: not reached, or reached and not answering this question."""

from __future__ import annotations

from ops.errors import Exit, OpsError


class ServerUnreachable(OpsError):
    """A server does not answer, is not trusted, or refuses the login."""

    exit_code = Exit.UNREACHABLE


class NotVisible(OpsError):
    """A question that this target gives nobody here the right to ask."""


class TooSlow(OpsError):
    """A server that answers gave this one answer up, since it took too long."""


def one_line(said: object) -> str:
    """A message of a driver or a program, without its line breaks."""
    return " ".join(str(said).split())
