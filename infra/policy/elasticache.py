"""Rules for Redis on ElastiCache: replication groups, their parameters, and their users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.policy.example import made
from infra.policy.expectation import (
    must_be,
    must_be_at_least,
    outside,
    parameter,
    the_one,
    unknown,
)
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.subnets import chosen_subnets
from infra.policy.value import UNKNOWN, as_number, is_number
from infra.spec.redis import EVICTION_POLICIES

REPLICATION_GROUP = "aws:elasticache/replicationGroup:ReplicationGroup"
PARAMETER_GROUP = "aws:elasticache/parameterGroup:ParameterGroup"
SUBNET_GROUP = "aws:elasticache/subnetGroup:SubnetGroup"
USER = "aws:elasticache/user:User"
USER_GROUP = "aws:elasticache/userGroup:UserGroup"
LEAST_RESERVED_PERCENT = 25


def redis(**properties: Any) -> Resource:
    return made(REPLICATION_GROUP, "redis", **properties)


def _parameters(**values: str) -> list[Resource]:
    entries = [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]
    group = made(PARAMETER_GROUP, "group", name="redis7", family="redis7", parameters=entries)
    return [redis(parameterGroupName="redis7"), group]


def _users(access: str, name: str = "default") -> list[Resource]:
    return [
        redis(userGroupIds=["users"]),
        made(USER_GROUP, "group", userGroupId="users", userIds=["nobody", "app"]),
        made(USER, "default", userId="nobody", userName=name, accessString=access),
        made(USER, "app", userId="app", userName="app", accessString="on ~gw:* -@all +get"),
    ]


@rule(
    "ElastiCache.1",
    "Snapshots are taken daily and kept",
    Severity.HIGH,
    on=REPLICATION_GROUP,
    fix="set snapshotRetentionLimit to 1 day or more",
    good=[redis(snapshotRetentionLimit=1)],
    bad=[[redis(snapshotRetentionLimit=0)], [redis()]],
    alone=True,
)
def snapshots(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be_at_least(group, "snapshotRetentionLimit", 1)


@rule(
    "ElastiCache.2",
    "Minor versions are upgraded automatically",
    Severity.HIGH,
    on=REPLICATION_GROUP,
    fix="set autoMinorVersionUpgrade to true",
    good=[redis(autoMinorVersionUpgrade=True)],
    bad=[[redis(autoMinorVersionUpgrade="false")]],
    alone=True,
)
def minor_upgrades(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(group, "autoMinorVersionUpgrade", True, default=True)


@rule(
    "ElastiCache.3",
    "A replica in another availability zone takes over automatically",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix="set automaticFailoverEnabled and multiAzEnabled to true, with two nodes or more",
    good=[redis(automaticFailoverEnabled=True, multiAzEnabled=True)],
    bad=[
        [redis(automaticFailoverEnabled=False, multiAzEnabled=True)],
        [redis(automaticFailoverEnabled=True)],
    ],
    alone=True,
)
def failover(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(group, "automaticFailoverEnabled", True, default=False)
    yield from must_be(group, "multiAzEnabled", True, default=False)


@rule(
    "ElastiCache.4",
    "Data at rest is encrypted",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix="set atRestEncryptionEnabled to true",
    good=[redis(atRestEncryptionEnabled=True)],
    bad=[[redis(atRestEncryptionEnabled=False)], [redis()]],
    alone=True,
)
def encrypted_at_rest(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(group, "atRestEncryptionEnabled", True, default=False)


@rule(
    "ElastiCache.5",
    "Connections without TLS are refused",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix="set transitEncryptionEnabled to true and transitEncryptionMode to 'required'",
    good=[redis(transitEncryptionEnabled=True, transitEncryptionMode="required")],
    bad=[
        [redis(transitEncryptionEnabled=True, transitEncryptionMode="preferred")],
        [redis(transitEncryptionEnabled=True)],
        [redis(transitEncryptionEnabled=False, transitEncryptionMode="required")],
    ],
    alone=True,
)
def encrypted_in_transit(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(group, "transitEncryptionEnabled", True, default=False)
    yield from must_be(group, "transitEncryptionMode", "required")


@rule(
    "ElastiCache.6",
    "Only the stack's users can log in, and the user `default` is off",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix="set userGroupIds to a user group whose user named default has an accessString that begins with off",
    good=_users("off -@all"),
    bad=[_users("on ~* +@all"), _users("-@all"), _users("off", name="other"), [redis()]],
)
def own_users(group: Resource, resources: Resources) -> Iterator[Problem]:
    if not group.get("userGroupIds"):
        yield Problem("userGroupIds", "must be set: without users, any client that reaches it can log in")
        return
    groups = resources.all_named_by(group, "userGroupIds", USER_GROUP)
    if not groups.is_complete:
        yield outside("userGroupIds", "the user group")
    for each in groups.found:
        yield from _default_is_off(each, resources)


def _default_is_off(group: Resource, resources: Resources) -> Iterator[Problem]:
    users = resources.all_named_by(group, "userIds", USER)
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
            # ElastiCache's built-in user of that name is on, and may run every command.
            yield Problem("userGroupIds", f"group {group.name} has no user default of the stack's own")


def _is_aws_own(group: Resource) -> bool:
    """Return whether the user group contains AWS's built-in `default` user."""
    ids = group.get("userIds")
    return isinstance(ids, list) and "default" in ids


def _last_switch(access: str) -> str:
    """Return the last of `on` and `off`, which is the one that Redis applies, or "" if there is none."""
    return next((word for word in reversed(access.split()) if word in ("on", "off")), "")


@rule(
    "ElastiCache.7",
    "A replication group does not use the default subnet group",
    Severity.HIGH,
    on=REPLICATION_GROUP,
    fix="set subnetGroupName to a subnet group of the stack's own",
    good=[redis(subnetGroupName="isolated")],
    bad=[[redis(subnetGroupName="default")], [redis()]],
)
def own_subnets(group: Resource, resources: Resources) -> Iterator[Problem]:
    yield from chosen_subnets(group, "subnetGroupName", resources, SUBNET_GROUP)


@rule(
    "ElastiCache.reserved-memory",
    "A quarter of the memory is reserved for failovers and snapshots",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix=f"set reserved-memory-percent to {LEAST_RESERVED_PERCENT} or more in the parameter group",
    good=_parameters(reserved_memory_percent="25"),
    bad=[_parameters(reserved_memory_percent="10"), _parameters(), [redis()]],
)
def reserved_memory(group: Resource, resources: Resources) -> Iterator[Problem]:
    name = "reserved-memory-percent"
    for parameters in _parameter_group(group, resources):
        if isinstance(parameters, Problem):
            yield parameters
            continue
        value = as_number(parameter(parameters, name))
        if value is UNKNOWN:
            yield unknown("parameterGroupName")
        elif not is_number(value) or value < LEAST_RESERVED_PERCENT:
            yield Problem("parameterGroupName", f"{name} must be {LEAST_RESERVED_PERCENT} or more")


@rule(
    "ElastiCache.maxmemory-policy",
    "The eviction policy is set explicitly",
    Severity.MEDIUM,
    on=REPLICATION_GROUP,
    fix="set maxmemory-policy to one of Redis's in the parameter group",
    good=_parameters(maxmemory_policy="allkeys-lfu"),
    bad=[_parameters(maxmemory_policy="allkeys-lfo"), _parameters(), [redis()]],
)
def eviction(group: Resource, resources: Resources) -> Iterator[Problem]:
    name = "maxmemory-policy"
    for parameters in _parameter_group(group, resources):
        if isinstance(parameters, Problem):
            yield parameters
            continue
        value = parameter(parameters, name)
        if value is UNKNOWN:
            yield unknown("parameterGroupName")
        elif value is None:
            yield Problem("parameterGroupName", f"{name} must be set")
        elif value not in EVICTION_POLICIES:
            yield Problem("parameterGroupName", f"{name} is not a policy of Redis")


def _parameter_group(group: Resource, resources: Resources) -> Iterator[Resource | Problem]:
    """Yield the parameter group, or the problems because of which it cannot be checked."""
    if group.get("parameterGroupName") is None:
        yield Problem("parameterGroupName", "must name a parameter group of the stack")
        return
    found, problems = the_one(
        resources.named_by(group, "parameterGroupName", PARAMETER_GROUP),
        "parameterGroupName",
        "the parameter group",
    )
    yield from problems if found is None else (found,)
