"""The base class of the program's dynamic providers: it compares inputs to find changes, and silences grpc's log.

Pulumi pickles a provider into the state and runs the pickled one on delete. The pickle refers to the class by module
and name, so rename or move a provider only with an alias, and keep no data in its instances.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi
from pulumi import dynamic

# grpc prints a traceback of every exception that a provider raises, in addition to the message that Pulumi shows.
logging.getLogger("grpc._server").setLevel(logging.CRITICAL)


class Provider(dynamic.ResourceProvider):
    """A provider that updates its resource when one of the inputs changes.

    A change of an input in `ignored` never causes an update, and a change of an input in `replacing` replaces the
    resource.
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
    """Merge a mapping of inputs into one secret output."""
    merged: pulumi.Output[dict[str, str]] = pulumi.Output.all(**values)
    return pulumi.Output.secret(merged)
