"""Build resources for the rules' examples. Each has an id, as after an `up`."""

from __future__ import annotations

from typing import Any

from infra.policy import resource_types as types
from infra.policy.resource import Resource
from infra.policy.rule import Example


def made(type_: str, name: str, /, protect: bool = False, **properties: Any) -> Resource:
    """Return a resource of the stack `example` with the id `NAME-id`."""
    return Resource(
        urn=f"urn:pulumi:example::groundwork::{type_}::{name}",
        type=type_,
        properties=properties,
        id=f"{name}-id",
        is_protected=protect,
    )


def postgres(*others: Resource, protect: bool = False, **properties: Any) -> Example:
    """Return an RDS instance, and other resources."""
    return [made(types.RDS_INSTANCE, "postgres", protect=protect, **properties), *others]


def redis(*others: Resource, **properties: Any) -> Example:
    return [made(types.REDIS_GROUP, "redis", **properties), *others]


def postgres_parameter(name: str = "", value: str = "") -> Example:
    """Return an RDS instance with a parameter group, with one parameter or none."""
    group = _parameters(types.RDS_PARAMETER_GROUP, name, value, name="postgres15")
    return postgres(group, parameterGroupName="postgres15")


def redis_parameter(name: str = "", value: str = "") -> Example:
    group = _parameters(types.REDIS_PARAMETER_GROUP, name, value, name="redis7", family="redis7")
    return redis(group, parameterGroupName="redis7")


def _parameters(type_: str, name_: str, value: str, **properties: Any) -> Resource:
    return made(type_, "group", **properties, parameters=[{"name": name_, "value": value}] if name_ else [])


def users(access: str, name: str = "default") -> Example:
    """Return a replication group with two users: one with a name and an access string, and `app`."""
    return redis(
        made(types.REDIS_USER_GROUP, "group", userGroupId="users", userIds=["nobody", "app"]),
        made(types.REDIS_USER, "default", userId="nobody", userName=name, accessString=access),
        made(types.REDIS_USER, "app", userId="app", userName="app", accessString="on ~gw:* -@all +get"),
        userGroupIds=["users"],
    )


def subnet(*routing: Resource, public: bool) -> Example:
    """Return an RDS instance in one subnet."""
    return postgres(
        made(types.RDS_SUBNET_GROUP, "group", name="isolated", subnetIds=["subnet-id"]),
        made(types.SUBNET, "subnet", mapPublicIpOnLaunch=public),
        *routing,
        dbSubnetGroupName="isolated",
    )


def routing(*routes: dict[str, str]) -> Example:
    return [
        made(types.ASSOCIATION, "association", subnetId="subnet-id", routeTableId="table-id"),
        made(types.ROUTE_TABLE, "table", routes=list(routes)),
    ]


def events(source: str, *categories: str, **properties: Any) -> Example:
    """Return an RDS instance with an event subscription."""
    topic = "arn:aws:sns:eu-west-1:123456789012:alarms"
    given = {"snsTopic": topic, "sourceType": source, "eventCategories": list(categories), **properties}
    return postgres(made(types.RDS_SUBSCRIPTION, "events", **given))


def vpc(**default_group: Any) -> Example:
    """Return a VPC with its default security group."""
    group = made(types.DEFAULT_SECURITY_GROUP, "default", vpcId="vpc-id", **default_group)
    return [made(types.VPC, "vpc"), group]


def group(**properties: Any) -> Example:
    return [made(types.SECURITY_GROUP, "group", **properties)]


def ingress(**properties: Any) -> Resource:
    return made(types.INGRESS_RULE, "ingress", securityGroupId="data-id", **properties)


def reachable(*rules: Resource, **group: Any) -> Example:
    """Return an RDS instance with a security group and its rules."""
    return postgres(made(types.SECURITY_GROUP, "data", **group), *rules, vpcSecurityGroupIds=["data-id"])


def rotation(**rules: object) -> Example:
    """Return a secret with its rotation."""
    secret_rotation = made(types.SECRET_ROTATION, "rotation", secretId="secret-id", rotationRules=rules)
    return [made(types.SECRET, "secret"), secret_rotation]
