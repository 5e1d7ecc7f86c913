"""A stack's resources as the rules see them, and the references between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.policy.value import UNKNOWN, holds_unknown

# The properties, in addition to the id, by which other resources refer to a resource.
_IDENTIFYING = ("arn", "name", "identifier", "userId", "userGroupId")


@dataclass(frozen=True)
class Resource:
    """One resource.

    - `properties`: its inputs by Pulumi's property names. A value that is not known yet is UNKNOWN.
    - `id`: empty if the resource does not exist yet, or if the policy engine does not provide the id.
    - `is_external`: the program only reads the resource, and does not manage it.
    - `dependencies`: property -> URNs of the resources from which its value is computed.
    - `position`: `file:line` in the program.
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
        """Return a property's value, or None if it is not set."""
        return self.properties.get(property_)

    def inheriting(self, source: Resource | None, properties: Iterable[str]) -> Resource:
        """Return a copy in which unset ones of `properties` come from `source`. Without a source they are UNKNOWN."""
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
    """The resources that a property refers to. Incomplete if it may also refer to other ones."""

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
        """Return the resources of the given types that a property names.

        A known value is looked up. For unknown values, the engine lists the resources from which they are computed.
        They are resolved only if the list has exactly as many resources of these types as there are unresolved values.
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
        # A resource with an id would have been found by a known value, so it is not one of the unresolved ones.
        rest = [
            other
            for other in made_from
            if other and other.type in types and other not in found and not (strangers and other.id)
        ]
        if unanswered != len(rest):
            return References(tuple(found), False)
        return References((*found, *rest), True)

    def all_named_by(self, resource: Resource, property_: str, *types: str) -> References:
        """Like `named_by` for a list property. A list that is unknown as a whole may name any resource."""
        if resource.get(property_) is UNKNOWN:
            return References((), False)
        return self.named_by(resource, property_, *types)

    def naming(self, target: Resource, property_: str, *types: str) -> References:
        """Return the resources of the given types whose property names `target`. Incomplete if others may, too."""
        found: list[Resource] = []
        is_complete = True
        for resource in self.of(*types):
            if target in self.named_by(resource, property_, target.type).found:
                found.append(resource)
            elif holds_unknown(resource.get(property_)):
                # A computed value names one of the resources from which it is computed.
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
