"""Every password of a stack, by role and generation: a rotation makes the next one a resource, and drops the last."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from infra.credentials import Password
from infra.spec import roles
from infra.spec.redis_acl import LOCAL_USERS
from infra.spec.rotation import Rotation


class Passwords:
    """The passwords that a rotation accepts, of Postgres's logins and of Redis's users."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._postgres = {
            (role, generation): Password(_name(f"postgres-{roles.login_of(role, generation)}", generation))
            for role in roles.LOGINS
            for generation in rotation.of(role).accepted
        }
        self._redis = {
            (user.name, generation): Password(_name(f"redis-{user.name}", generation))
            for user in LOCAL_USERS
            for generation in rotation.of(user.name).accepted
        }

    def postgres(self, role: str) -> tuple[str, pulumi.Output[str]]:
        """The login that a role uses, and its password."""
        in_use = self._rotation.of(role).in_use
        return roles.login_of(role, in_use), self._postgres[role, in_use].value

    def verifiers(self) -> dict[str, pulumi.Output[str]]:
        """Login -> verifier, of the logins that are let in: where a role has one login, what it uses."""
        accepted: dict[str, pulumi.Output[str]] = {}
        for role, logins in roles.LOGINS.items():
            generation = self._rotation.of(role)
            for number in generation.accepted if len(logins) > 1 else (generation.in_use,):
                accepted[roles.login_of(role, number)] = self._postgres[role, number].verifier
        return accepted

    def redis(self, user: str) -> pulumi.Output[str]:
        """The password that a user of Redis uses."""
        return self._redis[user, self._rotation.of(user).in_use].value

    def redis_accepted(self) -> Mapping[str, pulumi.Output[tuple[str, ...]]]:
        """User -> every password that Redis takes."""
        return {
            user.name: pulumi.Output.all(
                *(self._redis[user.name, number].value for number in self._rotation.of(user.name).accepted)
            ).apply(tuple)
            for user in LOCAL_USERS
        }


def _name(name: str, generation: int) -> str:
    """The resource's name; the first generation has the plain one."""
    return name if generation == 1 else f"{name}-{generation}"
