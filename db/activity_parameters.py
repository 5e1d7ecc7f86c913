"""Check an activity's values and turn them into query parameters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from db.models import Activity, NewActivity
from db.validation import bigint, indexed_text, json_object, partition_month, timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Parameters = dict[str, Any]


def key_of(activity_id: int, at: datetime) -> Parameters:
    """Return the key as parameters. No index has the id alone."""
    return {"id": bigint("activity_id", activity_id), "timestamp": timestamp("at", at)}


def values(activity: NewActivity | Activity) -> Parameters:
    """Return all values that a caller may set. Raises InvalidInput."""
    event, repo = activity.github_event_id, activity.repo_id
    return {
        "github_event_id": None if event is None else bigint("github_event_id", event, least=1),
        "user_id": bigint("user_id", activity.user_id),
        "repo_id": None if repo is None else bigint("repo_id", repo),
        "type": indexed_text("type", activity.type, empty=False),
        "timestamp": timestamp("timestamp", activity.timestamp),
        "data": Jsonb(json_object("data", activity.data)),
    }


def new_values(activity: NewActivity) -> Parameters:
    """Return the values of an activity to insert. Raises InvalidInput also if no partition can hold its month."""
    checked = values(activity)
    partition_month("timestamp", checked["timestamp"])
    return checked


def named(checked: Parameters) -> str:
    """Return what identifies a new activity besides its timestamp, for the purpose of an idempotency key."""
    event = checked["github_event_id"]
    return f"user_id {checked['user_id']}" if event is None else f"github_event_id {event}"


def microseconds(at: datetime) -> int:
    """Return the microseconds since 1970, exactly: the float of datetime.timestamp() loses the last digit."""
    return (at - EPOCH) // timedelta(microseconds=1)


# The range of `microseconds`.
MICROSECONDS = (
    microseconds(datetime.min.replace(tzinfo=UTC)),
    microseconds(datetime.max.replace(tzinfo=UTC)),
)
