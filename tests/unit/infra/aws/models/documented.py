"""What AWS documents beside its models: characters of names, and members that depend on each other.

The sources are the members' documentation in botocore's models, and the user guides that a rule names. No account has
confirmed them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

from tests.unit.infra.aws.models.calls import Request

_DESCRIPTION = r"[a-zA-Z0-9. _\-:/()#,@\[\]+=;{}!$*]{0,255}"
_HYPHENATED = r"(?=.{1,%d}$)[a-zA-Z](-?[a-zA-Z0-9])*"
# Operation and path of a member -> a pattern of the values that AWS accepts.
PATTERNS = {
    "CreateSecurityGroup.Description": _DESCRIPTION,
    "AuthorizeSecurityGroupIngress.IpPermissions.UserIdGroupPairs.Description": _DESCRIPTION,
    "AuthorizeSecurityGroupEgress.IpPermissions.UserIdGroupPairs.Description": _DESCRIPTION,
    "AuthorizeSecurityGroupEgress.IpPermissions.PrefixListIds.Description": _DESCRIPTION,
    "AuthorizeSecurityGroupEgress.IpPermissions.IpRanges.Description": _DESCRIPTION,
    "PutDashboard.DashboardName": r"[A-Za-z0-9_-]{1,255}",
    "PutMetricAlarm.AlarmName": r"[ -~]{1,255}",
    # Namespaces that begin with AWS/ are AWS's own.
    "PutMetricFilter.metricTransformations.metricNamespace": r"(?!AWS/)[A-Za-z0-9._/#-]{1,255}",
    "CreateTopic.Name": r"[A-Za-z0-9_-]{1,256}",
    "CreateDBInstance.DBInstanceIdentifier": _HYPHENATED % 63,
    "CreateDBInstanceReadReplica.DBInstanceIdentifier": _HYPHENATED % 63,
    # Letters, digits and underscores, and none of "admin", "rdsadmin" and others that Postgres reserves.
    "CreateDBInstance.MasterUsername": r"(?!(admin|rdsadmin|postgres|pg_.*)$)[a-zA-Z][a-zA-Z0-9_]{0,62}",
    "CreateDBInstance.MasterUserPassword": r"[^/\"@\s]{8,128}",
    "CreateDBParameterGroup.DBParameterGroupName": _HYPHENATED % 255,
    "CreateDBSubnetGroup.DBSubnetGroupName": r"(?!default$)[a-zA-Z][a-zA-Z0-9._ -]{0,254}",
    "CreateEventSubscription.SubscriptionName": _HYPHENATED % 254,
    "CreateReplicationGroup.ReplicationGroupId": _HYPHENATED % 40,
    "CreateCacheParameterGroup.CacheParameterGroupName": _HYPHENATED % 255,
    "CreateCacheParameterGroup.CacheParameterGroupFamily": "redis7|valkey7|valkey8",
    "CreateCacheSubnetGroup.CacheSubnetGroupName": r"[a-zA-Z0-9-]{1,255}",
    "CreateUser.UserId": _HYPHENATED % 40,
    "CreateUser.AccessString": r"(on|off) [^\"'<>]+",
    "CreateUserGroup.UserGroupId": _HYPHENATED % 40,
    "CreateAlias.AliasName": r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}",
    "CreateSecret.Name": r"(?!.*-.{6}$)[A-Za-z0-9/_+=.@-]{1,512}",
    "CreateRepository.repositoryName": r"[a-z][a-z0-9]*([._/-][a-z0-9]+)*",
    "CreateCluster.clusterName": r"[a-zA-Z0-9_-]{1,255}",
    "CreateService.serviceName": r"[a-zA-Z0-9_-]{1,255}",
    "RegisterTaskDefinition.family": r"[a-zA-Z0-9_-]{1,255}",
    "RegisterTaskDefinition.containerDefinitions.image": r"[^\s@]{1,255}@sha256:[0-9a-f]{64}",
    "CreateRole.RoleName": r"[\w+=,.@-]{1,64}",
    "CreatePolicy.PolicyName": r"[\w+=,.@-]{1,128}",
}
# A managed policy, without white space, and a role's trust policy.
_POLICY_CHARACTERS = {"CreatePolicy": 6144, "PutRolePolicy": 10240, "CreateRole": 2048}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def problems(request: Request, where: str) -> Iterator[str]:
    """Yield what the documentation says against a request."""
    for path, value in _leaves(request.members, request.operation):
        pattern = PATTERNS.get(path)
        if pattern and isinstance(value, str) and not re.fullmatch(pattern, value):
            yield f"{where}: {path} is {value!r}, not {pattern}"
    for rule in _RULES.get(f"{request.service}.{request.operation}", ()):
        if not rule(request.members):
            yield f"{where}: {request.operation}: {rule.__doc__}"
    most = _POLICY_CHARACTERS.get(request.operation)
    text = request.members.get("PolicyDocument") or request.members.get("AssumeRolePolicyDocument")
    if most and text and len(re.sub(r"\s", "", text)) > most:
        yield f"{where}: {request.operation}: the policy is longer than {most} characters"


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value


Rule = Callable[[dict[str, Any]], bool]


def _zones_need_a_spare_task(m: dict[str, Any]) -> bool:
    """Availability Zone rebalancing, which is the default, needs a maximumPercent above 100."""
    most = m["deploymentConfiguration"]["maximumPercent"]
    return most > 100 or m.get("availabilityZoneRebalancing") == "DISABLED"


def _managed_tags_are_propagated(m: dict[str, Any]) -> bool:
    """enableECSManagedTags needs propagateTags."""
    return not m.get("enableECSManagedTags") or "propagateTags" in m


def _a_task_can_be_replaced(m: dict[str, Any]) -> bool:
    """A deployment must be able to stop or to start a task."""
    configuration = m["deploymentConfiguration"]
    least = -(-m["desiredCount"] * configuration["minimumHealthyPercent"] // 100)
    return bool(m["desiredCount"] * configuration["maximumPercent"] // 100 > least)


def _discovery_has_a_health_check(m: dict[str, Any]) -> bool:
    """Service discovery of ECS in a private namespace needs HealthCheckCustomConfig."""
    return "HealthCheckCustomConfig" in m


def _failover_needs_a_replica(m: dict[str, Any]) -> bool:
    """AutomaticFailoverEnabled needs at least two nodes, and MultiAZEnabled needs AutomaticFailoverEnabled."""
    failover = m["AutomaticFailoverEnabled"]
    return (not failover or m["NumCacheClusters"] >= 2) and (failover or not m["MultiAZEnabled"])


def _engine_has_the_version(m: dict[str, Any]) -> bool:
    """ElastiCache has Redis 7.0 and 7.1, and Valkey 7.2, 8.0, 8.1 and 8.2 (User Guide, Supported engine versions)."""
    return (
        m["EngineVersion"] in {"redis": ("7.0", "7.1"), "valkey": ("7.2", "8.0", "8.1", "8.2")}[m["Engine"]]
    )


def _valkey_8_frees_lazily(m: dict[str, Any]) -> bool:
    """The family valkey8 has no lazyfree-lazy-* parameters (User Guide, Engine specific parameters)."""
    names = [p["ParameterName"] for p in m["ParameterNameValues"]]
    return not m["CacheParameterGroupName"].endswith("valkey8") or not any(
        n.startswith("lazyfree-") for n in names
    )


def _most_nodes(m: dict[str, Any]) -> bool:
    """Without cluster mode a replication group has at most six nodes."""
    return 1 <= m["NumCacheClusters"] <= 6


def _users_need_tls(m: dict[str, Any]) -> bool:
    """User groups need TransitEncryptionEnabled, which needs a subnet group."""
    return "UserGroupIds" not in m or (m["TransitEncryptionEnabled"] and "CacheSubnetGroupName" in m)


def _snapshot_window_apart(m: dict[str, Any]) -> bool:
    """The snapshot window is a time of the day, of at least an hour."""
    return _minutes(m["SnapshotWindow"]) >= 60


def _windows_apart(m: dict[str, Any]) -> bool:
    """The windows for backups and maintenance must not overlap, and must be at least 30 minutes long."""
    backup, weekly = m["PreferredBackupWindow"], m["PreferredMaintenanceWindow"]
    first, last = weekly.split("-")
    begin = _DAYS.index(first[:3]) * 1440 + _clock(first[4:])
    length = (_DAYS.index(last[:3]) * 1440 + _clock(last[4:]) - begin) % (7 * 1440)
    taken = {(begin + minute) % (7 * 1440) for minute in range(length)}
    daily = range(_clock(backup.split("-")[0]), _clock(backup.split("-")[0]) + _minutes(backup))
    return (
        length >= 30
        and _minutes(backup) >= 30
        and not any((day * 1440 + minute) % (7 * 1440) in taken for day in range(7) for minute in daily)
    )


def _monitoring_has_a_role(m: dict[str, Any]) -> bool:
    """MonitoringInterval is 0, 1, 5, 10, 15, 30 or 60, and needs MonitoringRoleArn unless it is 0."""
    interval = m["MonitoringInterval"]
    return interval in (0, 1, 5, 10, 15, 30, 60) and (interval == 0) == ("MonitoringRoleArn" not in m)


def _insights_are_kept(m: dict[str, Any]) -> bool:
    """PerformanceInsightsRetentionPeriod is 7, months of 31 days up to 23, or 731; 465 or more in advanced mode."""
    days = m["PerformanceInsightsRetentionPeriod"]
    offered = days in (7, 731) or (days % 31 == 0 and 1 <= days // 31 <= 23)
    return offered and (m.get("DatabaseInsightsMode") != "advanced" or days >= 465)


def _storage_of_gp3(m: dict[str, Any]) -> bool:
    """gp3 has 20 to 65536 GiB; from 400 GiB on 12000 to 64000 IOPS, and 500 to 4000 MiB/s, a quarter of these."""
    size = m.get("AllocatedStorage")
    if size is None:
        return True
    iops, throughput = m.get("Iops"), m.get("StorageThroughput")
    if throughput is not None and not (iops and 500 <= throughput <= min(4000, iops / 4)):
        return False
    return (
        20 <= size <= 65536
        and (iops is None or (size >= 400 and 12_000 <= iops <= 64_000))
        and m["MaxAllocatedStorage"] * 10 >= size * 11
    )


def _password_is_of_one_kind(m: dict[str, Any]) -> bool:
    """Either RDS manages the password, or the request contains it."""
    return m.get("ManageMasterUserPassword", False) != ("MasterUserPassword" in m)


def _alarm_evaluates_a_day_at_most(m: dict[str, Any]) -> bool:
    """Period times EvaluationPeriods is at most a day, and DatapointsToAlarm at most EvaluationPeriods."""
    return m["Period"] * m["EvaluationPeriods"] <= 86400 and m["DatapointsToAlarm"] <= m["EvaluationPeriods"]


def _dimensions_are_ascii(m: dict[str, Any]) -> bool:
    """Dimensions have ASCII values."""
    return all(d["Value"].strip() and d["Value"].isascii() for d in m.get("Dimensions", []))


def _subnet_has_a_size(m: dict[str, Any]) -> bool:
    """A subnet or VPC is a /16 to /28."""
    return 16 <= IPv4Network(m["CidrBlock"]).prefixlen <= 28


def _events_name_their_type(m: dict[str, Any]) -> bool:
    """SourceIds need a SourceType."""
    return "SourceIds" not in m or "SourceType" in m


_RULES: dict[str, tuple[Rule, ...]] = {
    "ecs.CreateService": (_zones_need_a_spare_task, _managed_tags_are_propagated, _a_task_can_be_replaced),
    "servicediscovery.CreateService": (_discovery_has_a_health_check,),
    "elasticache.CreateReplicationGroup": (
        _engine_has_the_version,
        _failover_needs_a_replica,
        _most_nodes,
        _users_need_tls,
        _snapshot_window_apart,
    ),
    "elasticache.ModifyCacheParameterGroup": (_valkey_8_frees_lazily,),
    "rds.CreateDBInstance": (
        _windows_apart,
        _monitoring_has_a_role,
        _insights_are_kept,
        _storage_of_gp3,
        _password_is_of_one_kind,
    ),
    "rds.CreateDBInstanceReadReplica": (_monitoring_has_a_role, _insights_are_kept),
    "cloudwatch.PutMetricAlarm": (_alarm_evaluates_a_day_at_most, _dimensions_are_ascii),
    "ec2.CreateSubnet": (_subnet_has_a_size,),
    "ec2.CreateVpc": (_subnet_has_a_size,),
    "rds.CreateEventSubscription": (_events_name_their_type,),
}


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _minutes(window: str) -> int:
    begin, end = map(_clock, window.split("-"))
    return (end - begin) % 1440
