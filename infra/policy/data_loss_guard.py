"""The data-loss guard: find deleted and replaced data, and weakened protection, in the steps of a preview."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from infra.policy.finding import Finding, Status
from infra.policy.loss import PROTECTION, Loss
from infra.policy.plan import PlanStep
from infra.policy.resource import Resource, Resources
from infra.policy.stateful import STATEFUL, Stateful, stateful
from infra.policy.value import UNKNOWN

# The operations that replace a resource. `create-replacement` describes only the new resource.
_REPLACING = frozenset({"replace", "create-replacement"})
_DELETING = frozenset({"delete", "delete-replaced", "discard-replaced", "remove-pending-replace"})


def losses(steps: Iterable[PlanStep]) -> list[Finding]:
    """Return the losses, by resource in the order of the steps. Each loss is reported once per resource."""
    by_urn: dict[str, list[PlanStep]] = {}
    steps = tuple(steps)
    for step in steps:
        # A refresh describes what changed outside of Pulumi, not what an `up` would do.
        if step.op != "refresh":
            by_urn.setdefault(step.urn, []).append(step)
    new = Resources(
        step.new.resource
        for steps_ in by_urn.values()
        for step in steps_
        if step.new and all(each.old is None for each in steps_)
    )
    return [
        *(finding for steps_ in by_urn.values() for finding in _of_resource(steps_)),
        *(finding for made in new for finding in _of_made(made, new)),
    ]


def _of_made(made: Resource, new: Resources) -> Iterator[Finding]:
    """Yield the losses that a new resource, such as a lifecycle rule, causes in an existing one that it configures."""
    kind = stateful(made)
    if kind is None or kind.rules_over is None or made.is_external:
        return
    over = new.named_by(made, kind.rules_over, *STATEFUL)
    if not (over.is_complete and over.found):
        yield from _guarded(kind, replace(made, properties={}), made)


def _of_resource(steps: list[PlanStep]) -> Iterator[Finding]:
    first = next((step for step in steps if step.old is not None), None)
    if first is None or first.old is None:
        return
    old = first.old
    kind = stateful(old.resource)
    if kind is None or old.resource.is_external:
        return
    if replacing := next((step for step in steps if step.op in _REPLACING), None):
        if kind.replaced is not None:
            why = ", ".join(replacing.replaced_for) or "replace"
            yield _finding(kind.replaced, old.resource, why, f"{kind.holds} is replaced by an empty one")
    elif any(step.op in _DELETING for step in steps):
        if kind.deleted is not None and not old.retained_on_delete:
            yield _finding(kind.deleted, old.resource, "delete", f"{kind.holds} is deleted")
        return
    changes = (step for step in steps if step.old and step.new and step.op not in _DELETING)
    if changing := next(changes, None):
        yield from _of_guards(kind, changing)


def _of_guards(kind: Stateful, step: PlanStep) -> Iterator[Finding]:
    old, new = step.old, step.new
    if old is None or new is None:
        return
    if old.resource.is_protected and not new.resource.is_protected:
        yield _finding(PROTECTION, new.resource, "protect", "the program no longer protects it")
    if old.retained_on_delete and not new.retained_on_delete:
        yield _finding(PROTECTION, new.resource, "retainOnDelete", "the program no longer retains it")
    yield from _guarded(kind, old.resource, new.resource)


def _guarded(kind: Stateful, old: Resource, new: Resource) -> Iterator[Finding]:
    for guard in kind.guards:
        answer = guard.judge(old, new)
        if answer is UNKNOWN:
            text = "its new value is not known before `up`"
            yield _finding(guard.loss, new, guard.property, text, Status.UNDETERMINED)
        elif answer:
            yield _finding(guard.loss, new, guard.property, guard.says)


def _finding(
    loss: Loss, resource: Resource, property_: str, message: str, status: Status = Status.VIOLATED
) -> Finding:
    return Finding(
        rule=loss.id,
        title=loss.title,
        severity=loss.severity,
        status=status,
        urn=resource.urn,
        property=property_,
        message=message,
        fix=loss.fix,
        position=resource.position,
    )
