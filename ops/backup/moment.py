"""Reads the moment that a person asks for: ISO 8601 with a zone, or LATEST."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.errors import Exit, OpsError


def parse_moment(text: str) -> datetime | None:
    """None for LATEST. OpsError (2) for a time without a zone, in the future, or no time at all."""
    if text.upper() == "LATEST":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OpsError(
            f"{text!r} is no time; write LATEST, or ISO 8601 with a zone, like 2026-03-01T02:50:00+01:00",
            Exit.USAGE,
        ) from None
    if moment.tzinfo is None:
        raise OpsError(
            f"{text!r} has no zone, and could mean one hour or another; add it: {text}Z or {text}+01:00",
            Exit.USAGE,
        )
    if moment > datetime.now(UTC):
        raise OpsError(f"{text!r} is still to come; LATEST is the newest there is", Exit.USAGE)
    return moment.astimezone(UTC)
