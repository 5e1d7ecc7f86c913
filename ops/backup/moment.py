"""Parse a point in time given by the user: ISO 8601 with a zone, or LATEST."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.errors import Exit, OpsError


def parse_moment(text: str) -> datetime | None:
    """Return the time, or None for LATEST. Raise OpsError (2) if it is invalid, has no zone, or is in the future."""
    if text.upper() == "LATEST":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise OpsError(
            f"{text!r} is not a time; pass LATEST or ISO 8601 with a zone, such as 2026-03-01T02:50:00+01:00",
            Exit.USAGE,
        ) from None
    if moment.tzinfo is None:
        raise OpsError(
            f"{text!r} has no time zone and is ambiguous; add one: {text}Z or {text}+01:00",
            Exit.USAGE,
        )
    if moment > datetime.now(UTC):
        raise OpsError(f"{text!r} is in the future; pass LATEST for the latest state", Exit.USAGE)
    return moment.astimezone(UTC)
