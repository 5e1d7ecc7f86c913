"""A stack's resources as the rules see them, and which of them a property refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.policy.value import UNKNOWN, holds_unknown

# What other resources name one by, beside its id.
_IDENTIFYING = ("arn", "name", "identifier", "userId", "userGroupId")


@dataclass(frozen=True)
class Resource:
    """One resource: its inputs by Pulumi's property names, UNKNOWN where they are not known yet.

    `dependencies` says for a property which resources (URNs) its value was made from. `id` is empty where the
    resource has none yet, or where the policy engine does not tell. An external one is only read: another made it.
    `position` is `file:line` of the program.
    """

    urn: str
    type: str
    properties: Mapping[str, Any]
    id: str = ""
    is_protected: bool = False
    is_external: bool = False
    dependencies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    position: str = ""

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]

    def get(self, property_: str) -> Any:
        """The property's value; None where it is not set."""
        return self.properties.get(property_)

    def inheriting(self, source: Resource | None, properties: Iterable[str]) -> Resource:
        """This resource with what it does not set itself of `properties` as `source` has it; None: UNKNOWN."""
        taken = [name for name in properties if self.get(name) is None]
        if source is None:
            return replace(self, properties={**self.properties, **dict.fromkeys(taken, UNKNOWN)})
        values = {name: source.properties[name] for name in taken if name in source.properties}
        reasons = {name: source.dependencies[name] for name in taken if name in source.dependencies}
        return replace(
            self,
            properties={**self.properties, **values},
            dependencies={**self.dependencies, **reasons},
        )


@dataclass(frozen=True)
class References:
    """The resources that a property refers to; not complete where it names others, or nobody can say which."""

    found: tuple[Resource, ...]
    is_complete: bool


class Resources:
    """All resources of a stack."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_urn = {resource.urn: resource for resource in resources}

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_urn.values())

    def __len__(self) -> int:
        return len(self._by_urn)

    def of(self, *types: str) -> list[Resource]:
        return [resource for resource in self if resource.type in types]

    def named_by(self, resource: Resource, property_: str, *types: str) -> References:
        """What one property names: one resource of the given types, or a list of them.

        A known value is looked up. One that is not known yet is what the engine says it was made from, where that
        leaves no choice: as many resources of these types as there are values without an answer.
        """
        value = resource.get(property_)
        if value is None:
            return References((), True)
        found: list[Resource] = []
        unanswered = strangers = 0
        for each in value if isinstance(value, list) else [value]:
            named = self._named(each, types)
            if named is not None:
                found.append(named)
                continue
            unanswered += 1
            strangers += each is not UNKNOWN
        made_from = (self._by_urn.get(urn) for urn in resource.dependencies.get(property_, ()))
        # Whoever has an id is named by it: a known value that names nobody is none of those.
        rest = [
            other
            for other in made_from
            if other and other.type in types and other not in found and not (strangers and other.id)
        ]
        if unanswered != len(rest):
            return References(tuple(found), False)
        return References((*found, *rest), True)

    def all_named_by(self, resource: Resource, property_: str, *types: str) -> References:
        """The same of a property that is a list: one that is not known as a whole may name anybody."""
        if resource.get(property_) is UNKNOWN:
            return References((), False)
        return self.named_by(resource, property_, *types)

    def naming(self, target: Resource, property_: str, *types: str) -> References:
        """The resources of the given types whose property names `target`; not complete where one may do so."""
        found: list[Resource] = []
        is_complete = True
        for resource in self.of(*types):
            if target in self.named_by(resource, property_, target.type).found:
                found.append(resource)
            elif holds_unknown(resource.get(property_)):
                # A value that was made from others names one of those.
                made_from = resource.dependencies.get(property_, ())
                is_complete &= bool(made_from) and target.urn not in made_from
        return References(tuple(found), is_complete)

    def _named(self, value: Any, types: Sequence[str]) -> Resource | None:
        if not isinstance(value, str) or not value:
            return None
        for resource in self.of(*types):
            if value == resource.id or any(value == resource.get(name) for name in _IDENTIFYING):
                return resource
        return None
