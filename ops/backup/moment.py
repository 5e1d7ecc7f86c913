"""Parse a point in time given by the user: ISO 8601 with a zone, or LATEST."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ops.errors import Exit, OpsError

# Python also reads `2026-03-01` as midnight, and the zone of `2026-03-01+01:00` as a time of day.
_TIME_OF_DAY = re.compile(r"[T ]\d", re.IGNORECASE)


def parse_moment(text: str) -> datetime | None:
    """Return the time, or None for LATEST. Raise OpsError (2) if it is incomplete, invalid or in the future."""
    if text.upper() == "LATEST":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _not_a_time(text) from None
    if not _TIME_OF_DAY.search(text):
        raise OpsError(
            f"{text!r} has no time of day; add one with a zone, such as {moment.date()}T02:50:00+01:00",
            Exit.USAGE,
        )
    if moment.tzinfo is None:
        complete = moment.isoformat()
        raise OpsError(
            f"{text!r} has no time zone and is ambiguous; add one: {complete}Z or {complete}+01:00",
            Exit.USAGE,
        )
    if moment > datetime.now(UTC):
        raise OpsError(f"{text!r} is in the future; pass LATEST for the latest state", Exit.USAGE)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        # In UTC it is before the year 1.
        raise _not_a_time(text) from None


def _not_a_time(text: str) -> OpsError:
    return OpsError(
        f"{text!r} is not a time; pass LATEST or ISO 8601 with a zone, such as 2026-03-01T02:50:00+01:00",
        Exit.USAGE,
    )
