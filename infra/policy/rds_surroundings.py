"""Rules for the resources around an RDS instance: subnets, parameter group, event subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.policy.example import made
from infra.policy.expectation import outside, parameter, the_one, unknown
from infra.policy.rds import INSTANCE, as_replica, instance
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.subnets import ASSOCIATION, ROUTE_TABLE, SUBNET, chosen_subnets, private_subnets
from infra.policy.value import UNKNOWN, as_bool, holds_unknown

SUBNET_GROUP = "aws:rds/subnetGroup:SubnetGroup"
PARAMETER_GROUP = "aws:rds/parameterGroup:ParameterGroup"
TOPIC = "aws:sns/topic:Topic"
SUBSCRIPTION = "aws:rds/eventSubscription:EventSubscription"


def subscription(source: str, *categories: str, **properties: Any) -> Resource:
    topic = "arn:aws:sns:eu-west-1:123456789012:alarms"
    return made(
        SUBSCRIPTION,
        "events",
        snsTopic=topic,
        sourceType=source,
        eventCategories=list(categories),
        **properties,
    )


@rule(
    "RDS.18",
    "An instance does not use the default subnet group",
    Severity.HIGH,
    on=INSTANCE,
    fix="set dbSubnetGroupName",
    good=[instance(dbSubnetGroupName="isolated")],
    bad=[[instance()], [instance(dbSubnetGroupName="default")]],
)
def own_subnets(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from chosen_subnets(as_replica(db, resources), "dbSubnetGroupName", resources, SUBNET_GROUP)


@rule(
    "RDS.46",
    "No subnet of an instance has a route to the internet",
    Severity.HIGH,
    on=INSTANCE,
    fix="use only subnets without a route to an internet gateway in the subnet group",
    good=[
        instance(dbSubnetGroupName="isolated"),
        made(SUBNET_GROUP, "group", name="isolated", subnetIds=["subnet-id"]),
        made(SUBNET, "subnet", mapPublicIpOnLaunch=False),
        made(ASSOCIATION, "association", subnetId="subnet-id", routeTableId="table-id"),
        made(ROUTE_TABLE, "table", routes=[]),
    ],
    bad=[
        [
            instance(dbSubnetGroupName="isolated"),
            made(SUBNET_GROUP, "group", name="isolated", subnetIds=["subnet-id"]),
            made(SUBNET, "subnet", mapPublicIpOnLaunch=True),
        ],
        [
            instance(dbSubnetGroupName="isolated"),
            made(SUBNET_GROUP, "group", name="isolated", subnetIds=["subnet-id"]),
            made(SUBNET, "subnet", mapPublicIpOnLaunch=False),
            made(ASSOCIATION, "association", subnetId="subnet-id", routeTableId="table-id"),
            made(ROUTE_TABLE, "table", routes=[{"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}]),
        ],
    ],
)
def no_way_to_the_internet(db: Resource, resources: Resources) -> Iterator[Problem]:
    db = as_replica(db, resources)
    if db.get("dbSubnetGroupName") is None:
        return
    group, problems = the_one(
        resources.named_by(db, "dbSubnetGroupName", SUBNET_GROUP), "dbSubnetGroupName", "the subnet group"
    )
    yield from problems
    if group is not None:
        yield from private_subnets(group, "dbSubnetGroupName", resources)


@rule(
    "RDS.38",
    "Connections without TLS are refused",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="set rds.force_ssl to 1 in a parameter group of the stack",
    good=[
        instance(parameterGroupName="postgres15"),
        made(
            PARAMETER_GROUP, "group", name="postgres15", parameters=[{"name": "rds.force_ssl", "value": "1"}]
        ),
    ],
    bad=[
        [
            instance(parameterGroupName="postgres15"),
            made(
                PARAMETER_GROUP,
                "group",
                name="postgres15",
                parameters=[{"name": "rds.force_ssl", "value": "0"}],
            ),
        ],
        [
            instance(parameterGroupName="postgres15"),
            made(PARAMETER_GROUP, "group", name="postgres15", parameters=[]),
        ],
        [instance()],
    ],
)
def force_tls(db: Resource, resources: Resources) -> Iterator[Problem]:
    db = as_replica(db, resources)
    if db.get("parameterGroupName") is None:
        yield Problem("parameterGroupName", "must name a group that sets rds.force_ssl")
        return
    group, problems = the_one(
        resources.named_by(db, "parameterGroupName", PARAMETER_GROUP),
        "parameterGroupName",
        "the parameter group",
    )
    yield from problems
    if group is not None:
        value = parameter(group, "rds.force_ssl")
        if value is UNKNOWN:
            yield unknown("parameterGroupName")
        elif str(value) not in {"1", "1.0"}:
            yield Problem("parameterGroupName", f"rds.force_ssl of {group.name} must be 1")


@rule(
    "RDS.20",
    "An event subscription covers critical instance events",
    Severity.LOW,
    on=INSTANCE,
    fix="create an event subscription for db-instance: maintenance, configuration change, failure",
    good=[instance(), subscription("db-instance", "maintenance", "configuration change", "failure")],
    bad=[
        [instance()],
        [instance(), subscription("db-instance", "maintenance", "failure")],
        [
            instance(),
            subscription("db-instance", "maintenance", "configuration change", "failure", enabled=False),
        ],
        [
            instance(),
            subscription("db-instance", "maintenance", "configuration change", "failure", sourceIds=["x"]),
        ],
    ],
)
def instance_events(db: Resource, resources: Resources) -> Iterator[Problem]:
    wanted = {"maintenance", "configuration change", "failure"}
    yield from _notified(db, resources, "db-instance", wanted, type_=INSTANCE, target=db)


@rule(
    "RDS.21",
    "An event subscription covers changes of parameter groups",
    Severity.LOW,
    on=INSTANCE,
    fix="create an event subscription for db-parameter-group: configuration change",
    good=[instance(), subscription("db-parameter-group", "configuration change")],
    bad=[[instance()], [instance(), subscription("db-parameter-group", "failure")]],
)
def parameter_events(db: Resource, resources: Resources) -> Iterator[Problem]:
    group = resources.named_by(db, "parameterGroupName", PARAMETER_GROUP)
    target = group.found[0] if group.is_complete and group.found else None
    yield from _notified(
        db, resources, "db-parameter-group", {"configuration change"}, type_=PARAMETER_GROUP, target=target
    )


@rule(
    "RDS.22",
    "An event subscription covers changes of security groups",
    Severity.LOW,
    on=INSTANCE,
    fix="create an event subscription for db-security-group: configuration change, failure",
    good=[instance(), subscription("db-security-group", "configuration change", "failure")],
    bad=[[instance()], [instance(), subscription("db-security-group", "failure")]],
)
def security_group_events(db: Resource, resources: Resources) -> Iterator[Problem]:
    wanted = {"configuration change", "failure"}
    yield from _notified(db, resources, "db-security-group", wanted, type_="", target=None)


def _notified(
    db: Resource,
    resources: Resources,
    source: str,
    wanted: set[str],
    *,
    type_: str,
    target: Resource | None,
) -> Iterator[Problem]:
    """Yield a problem unless one subscription covers `target` or, if `target` is None, every object of its source."""
    is_open = False
    for each in resources.of(SUBSCRIPTION):
        answers = [
            _covers_source(each, source),
            _covers_categories(each, wanted),
            _covers_target(each, resources, type_, target),
            _reaches_somebody(each, resources),
            UNKNOWN if (enabled := as_bool(each.get("enabled"))) is UNKNOWN else enabled is not False,
        ]
        if all(answer is True for answer in answers):
            return
        is_open |= all(answer is not False for answer in answers)
    if is_open:
        yield outside("eventSubscription", f"whether a subscription to {source} covers it")
    else:
        yield Problem("eventSubscription", f"no subscription to {source} covers {', '.join(sorted(wanted))}")


def _reaches_somebody(subscription_: Resource, resources: Resources) -> object:
    topic = resources.named_by(subscription_, "snsTopic", TOPIC)
    if topic.is_complete and topic.found:
        return True
    return UNKNOWN if subscription_.get("snsTopic") is UNKNOWN else bool(subscription_.get("snsTopic"))


def _covers_source(subscription_: Resource, source: str) -> object:
    value = subscription_.get("sourceType")
    # A subscription without a source type covers every source.
    return UNKNOWN if value is UNKNOWN else value in (None, source)


def _covers_categories(subscription_: Resource, wanted: set[str]) -> object:
    value = subscription_.get("eventCategories")
    if not value:
        return True  # all of them
    if value is UNKNOWN:
        return UNKNOWN
    if wanted <= {v for v in value if isinstance(v, str)}:
        return True
    return UNKNOWN if holds_unknown(value) else False


def _covers_target(
    subscription_: Resource, resources: Resources, type_: str, target: Resource | None
) -> object:
    if not subscription_.get("sourceIds"):
        return True  # all of them
    if target is None:
        return UNKNOWN
    named = resources.all_named_by(subscription_, "sourceIds", type_)
    if target in named.found:
        return True
    return UNKNOWN if holds_unknown(subscription_.get("sourceIds")) else False
