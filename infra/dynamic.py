"""What the program's dynamic providers share: quiet errors, and a diff over chosen inputs.

Pulumi pickles a provider into the state and runs the pickled one on delete, so each provider is a bare
class found by its module's name: rename or move one only with an alias, and keep no data in instances.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi
from pulumi import dynamic

# grpc prints a traceback of every exception a provider raises, beside the message that Pulumi shows.
logging.getLogger("grpc._server").setLevel(logging.CRITICAL)


class Provider(dynamic.ResourceProvider):
    """A provider whose resource changes when one of its inputs does.

    `ignored` inputs never cause an update (they say how, not what); a change of one in `replacing` makes
    another resource.
    """

    ignored: ClassVar[frozenset[str]] = frozenset()
    replacing: ClassVar[frozenset[str]] = frozenset()

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        changed = {
            key
            for key in {*_olds, *_news} - self.ignored
            if key in _news and _olds.get(key) != _news[key] and not key.startswith("__")
        }
        return dynamic.DiffResult(
            changes=bool(changed),
            replaces=sorted(changed & self.replacing),
            delete_before_replace=True,
        )


def merged_secret(values: Mapping[str, pulumi.Input[str]]) -> pulumi.Output[dict[str, str]]:
    """One secret output of a mapping of inputs."""
    merged: pulumi.Output[dict[str, str]] = pulumi.Output.all(**values)
    return pulumi.Output.secret(merged)
