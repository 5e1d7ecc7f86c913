"""An activity's values as checked parameters of its queries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb

from db.models import Activity, NewActivity
from db.validation import bigint, json_object, partition_month, text, timestamp

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Parameters = dict[str, Any]


def key_of(activity_id: int, at: datetime) -> Parameters:
    """What finds one: an id alone is in no index by itself."""
    return {"id": bigint("activity_id", activity_id), "timestamp": timestamp("at", at)}


def values(activity: NewActivity | Activity) -> Parameters:
    """All that a caller may set. Raises InvalidInput."""
    event, repo = activity.github_event_id, activity.repo_id
    return {
        "github_event_id": None if event is None else bigint("github_event_id", event, least=1),
        "user_id": bigint("user_id", activity.user_id),
        "repo_id": None if repo is None else bigint("repo_id", repo),
        "type": text("type", activity.type, empty=False),
        "timestamp": timestamp("timestamp", activity.timestamp),
        "data": Jsonb(json_object("data", activity.data)),
    }


def new_values(activity: NewActivity) -> Parameters:
    """Those of one that is to be stored; one that is has a partition, wherever its time lies."""
    checked = values(activity)
    partition_month("timestamp", checked["timestamp"])
    return checked


def named(checked: Parameters) -> str:
    """What an idempotency key of a new one stands for, beside its time; not each has an event."""
    event = checked["github_event_id"]
    return f"user_id {checked['user_id']}" if event is None else f"github_event_id {event}"


def microseconds(at: datetime) -> int:
    """Since 1970, exact: a float's timestamp() loses the last digit."""
    return (at - EPOCH) // timedelta(microseconds=1)
