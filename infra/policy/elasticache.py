"""The check of the users who can log in to a replication group of ElastiCache."""

from __future__ import annotations

from collections.abc import Iterator

from infra.policy import resource_types as types
from infra.policy.requirement import outside, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem
from infra.policy.value import UNKNOWN


def own_users(group: Resource, resources: Resources) -> Iterator[Problem]:
    """Require user groups whose user `default` is the stack's own and off."""
    if not group.get("userGroupIds"):
        yield Problem("userGroupIds", "must be set: without users, any client that reaches it can log in")
        return
    groups = resources.all_named_by(group, "userGroupIds", types.REDIS_USER_GROUP)
    if not groups.is_complete:
        yield outside("userGroupIds", "the user group")
    for each in groups.found:
        yield from _default_is_off(each, resources)


def _default_is_off(group: Resource, resources: Resources) -> Iterator[Problem]:
    users = resources.all_named_by(group, "userIds", types.REDIS_USER)
    defaults = [user for user in users.found if user.get("userName") == "default"]
    for user in defaults:
        access = user.get("accessString")
        if access is UNKNOWN:
            yield unknown("userGroupIds")
        elif not isinstance(access, str) or _last_switch(access) != "off":
            yield Problem("userGroupIds", f"user default of group {group.name} is not off")
    if not defaults:
        named = [user.get("userName") for user in users.found]
        if (not users.is_complete and not _is_aws_own(group)) or UNKNOWN in named:
            yield outside("userGroupIds", f"which users group {group.name} has")
        else:
            # AWS's built-in user `default` is on, and may run every command.
            yield Problem(
                "userGroupIds",
                f"group {group.name} needs a user of the stack named default, instead of AWS's",
            )


def _is_aws_own(group: Resource) -> bool:
    """Return whether the user group contains AWS's built-in `default` user."""
    ids = group.get("userIds")
    return isinstance(ids, list) and "default" in ids


def _last_switch(access: str) -> str:
    """Return the last of `on` and `off`, which is the one that Redis applies, or "" if there is none."""
    return next((word for word in reversed(access.split()) if word in ("on", "off")), "")
