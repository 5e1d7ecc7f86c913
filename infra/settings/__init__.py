"""StackSettings: every setting of a stack, typed and validated before any resource is made.

The fields are the one list of what can be set: Pulumi.yaml's config schema and the tables of
docs/settings.md are rendered from them. This package reads plain mappings; it never talks to Pulumi, Docker or AWS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.settings import aws_checks, docker, replica_checks, shared
from infra.settings.aws import AwsTargetSettings
from infra.settings.declaration import AWS, DOCKER, Setting, coerce, declared, full, suggestion
from infra.settings.docker import DockerTargetSettings
from infra.spec.checkout import PROJECT
from infra.spec.errors import SettingError

__all__ = ["AWS", "DOCKER", "Setting", "StackSettings"]


# The settings that have another name now.
_RENAMED = {"awsPostgresReplicas": "postgresReplicas"}


@dataclass(frozen=True, kw_only=True)
class StackSettings(AwsTargetSettings, DockerTargetSettings):
    """Every setting of a stack. Create instances with `parse`, which validates them."""

    @classmethod
    def declarations(cls) -> list[Setting]:
        """Return every setting, in the order of the documentation: shared ones, then Docker's, then AWS's."""
        return declared(cls())

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> StackSettings:
        """Return settings from a mapping of keys (`redisMaxmemory`, with or without `groundwork:`) to values.

        Values may be text, because Pulumi's engine passes all values as text. Raises SettingError for the first invalid
        one.
        """
        known = {s.key: s for s in cls.declarations()}
        parsed: dict[str, Any] = {}
        for full_key, value in values.items():
            key = full_key.removeprefix(f"{PROJECT}:")
            if key in _RENAMED:
                raise SettingError(
                    full(key), "it was renamed", f"set {full(_RENAMED[key])} to the same value instead"
                )
            if key not in known:
                raise SettingError(full(key), "no such setting", suggestion(key, known))
            parsed[known[key].field] = coerce(known[key], value)
        settings = cls(**parsed)
        settings._validate()
        return settings

    def _validate(self) -> None:
        shared.check(self)
        self._refuse_other_targets()
        if self.target == AWS:
            aws_checks.check(self)
        else:
            docker.check(self)
            replica_checks.check(self)

    def _refuse_other_targets(self) -> None:
        """Refuse a value that has no effect on the target. The engine passes all defaults, so those are accepted."""
        for declaration in self.declarations():
            value = getattr(self, declaration.field)
            if self.target not in declaration.targets and value != declaration.default:
                raise SettingError(
                    full(declaration.key),
                    f"it has no effect on target {self.target}, only on {declaration.targets[0]}",
                    "remove it from the stack's file",
                )
