"""Checks of RDS instances: read replicas, final snapshots, event subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from infra.policy import resource_types as types
from infra.policy.requirement import be, be_set, must, outside, the_one
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Check, Problem
from infra.policy.value import UNKNOWN, as_bool, holds_unknown

# Properties that a read replica inherits from its source unless it sets them.
_INHERITED = (
    "autoMinorVersionUpgrade",
    "dbSubnetGroupName",
    "kmsKeyId",
    "manageMasterUserPassword",
    "parameterGroupName",
    "port",
    "storageEncrypted",
    "username",
)


def inherited(check: Check) -> Check:
    """Apply `check`. A read replica is checked with the properties that it inherits from its source."""

    def with_source(db: Resource, resources: Resources) -> Iterator[Problem]:
        if _is_replica(db):
            source = the_one(resources.named_by(db, "replicateSourceDb", types.RDS_INSTANCE))
            db = db.inheriting(source, _INHERITED)
        yield from check(db, resources)

    return with_source


def except_replicas(check: Check) -> Check:
    """Apply `check` to all instances except read replicas."""
    return lambda db, resources: () if _is_replica(db) else check(db, resources)


def _is_replica(db: Resource) -> bool:
    return db.get("replicateSourceDb") is not None


def is_protected(db: Resource, resources: Resources) -> Iterator[Problem]:
    """Require Pulumi's option `protect`."""
    if not db.is_protected:
        yield Problem("protect", "the program does not protect the resource")


def takes_final_snapshot(db: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that a deletion takes a final snapshot."""
    yield from must("skipFinalSnapshot", be(False), default=False)(db, resources)
    if db.get("skipFinalSnapshot") in (None, False):
        named = must("finalSnapshotIdentifier", be_set("must be set, because a deletion fails without it"))
        yield from named(db, resources)


# Returns the resource that a subscription has to cover. None: every object of its source.
Target = Callable[[Resource, Resources], Resource | None]


def itself(db: Resource, resources: Resources) -> Resource | None:
    return db


def its_parameter_group(db: Resource, resources: Resources) -> Resource | None:
    group = resources.named_by(db, "parameterGroupName", types.RDS_PARAMETER_GROUP)
    return group.found[0] if group.is_complete and group.found else None


def every_object(db: Resource, resources: Resources) -> Resource | None:
    return None


def subscribed(source: str, *categories: str, to: Target) -> Check:
    """Require one event subscription that covers all the categories, and the resource that `to` returns."""

    def check(db: Resource, resources: Resources) -> Iterator[Problem]:
        target = to(db, resources)
        is_open = False
        for each in resources.of(types.RDS_SUBSCRIPTION):
            answers = {
                _covers_source(each, source),
                _covers_categories(each, set(categories)),
                _covers_target(each, resources, target),
                _reaches_somebody(each, resources),
                UNKNOWN if (enabled := as_bool(each.get("enabled"))) is UNKNOWN else enabled is not False,
            }
            if answers == {True}:
                return
            is_open |= False not in answers
        if is_open:
            yield outside("eventSubscription", f"whether a subscription to {source} covers it")
        else:
            wanted = ", ".join(sorted(categories))
            yield Problem("eventSubscription", f"no subscription to {source} covers {wanted}")

    return check


def _reaches_somebody(subscription: Resource, resources: Resources) -> object:
    topic = resources.named_by(subscription, "snsTopic", types.TOPIC)
    if topic.is_complete and topic.found:
        return True
    return UNKNOWN if subscription.get("snsTopic") is UNKNOWN else bool(subscription.get("snsTopic"))


def _covers_source(subscription: Resource, source: str) -> object:
    value = subscription.get("sourceType")
    # A subscription without a source type covers every source.
    return UNKNOWN if value is UNKNOWN else value in (None, source)


def _covers_categories(subscription: Resource, wanted: set[str]) -> object:
    value = subscription.get("eventCategories")
    if not value:
        return True  # all of them
    if value is UNKNOWN:
        return UNKNOWN
    if wanted <= {v for v in value if isinstance(v, str)}:
        return True
    return UNKNOWN if holds_unknown(value) else False


def _covers_target(subscription: Resource, resources: Resources, target: Resource | None) -> object:
    if not subscription.get("sourceIds"):
        return True  # all of them
    if target is None:
        return UNKNOWN
    named = resources.all_named_by(subscription, "sourceIds", target.type)
    if target in named.found:
        return True
    return UNKNOWN if holds_unknown(subscription.get("sourceIds")) else False
