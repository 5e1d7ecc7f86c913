"""Every password of a stack, by role and generation. Each generation that a rotation accepts is a Pulumi resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from infra.credentials import Password
from infra.spec import roles
from infra.spec.redis_acl import LOCAL_USERS, SERVER_USERS, RedisUser
from infra.spec.rotation import Rotation


class Passwords:
    """The passwords of Postgres logins and Redis users that a rotation accepts."""

    def __init__(self, rotation: Rotation, *, has_redis_replicas: bool = False) -> None:
        self._rotation = rotation
        self._postgres = {
            (role, generation): Password(_name(f"postgres-{roles.login_of(role, generation)}", generation))
            for role in roles.LOGINS
            for generation in rotation.of(role).accepted
        }
        self._redis = {
            (user.name, generation): Password(_name(f"redis-{user.name}", generation))
            for user in (*LOCAL_USERS, *(SERVER_USERS if has_redis_replicas else ()))
            for generation in rotation.of(user.name).accepted
        }

    def postgres(self, role: str) -> tuple[str, pulumi.Output[str]]:
        """Return the login that a role uses, and its password."""
        in_use = self._rotation.of(role).in_use
        return roles.login_of(role, in_use), self._postgres[role, in_use].value

    def verifiers(self) -> dict[str, pulumi.Output[str]]:
        """Return the verifier of each login that may log in.

        A role with two logins can use each accepted generation. A role with one login has one password at a time.
        """
        accepted: dict[str, pulumi.Output[str]] = {}
        for role, logins in roles.LOGINS.items():
            generation = self._rotation.of(role)
            for number in generation.accepted if len(logins) > 1 else (generation.in_use,):
                accepted[roles.login_of(role, number)] = self._postgres[role, number].verifier
        return accepted

    def redis(self, user: str) -> pulumi.Output[str]:
        """Return the password that a Redis user uses."""
        return self._redis[user, self._rotation.of(user).in_use].value

    def redis_accepted(self, users: Sequence[RedisUser]) -> Mapping[str, pulumi.Output[tuple[str, ...]]]:
        """Return every password that Redis accepts from these users, by user."""
        return {
            user.name: pulumi.Output.all(
                *(self._redis[user.name, number].value for number in self._rotation.of(user.name).accepted)
            ).apply(tuple)
            for user in users
        }


def _name(name: str, generation: int) -> str:
    """Return the resource's name. The first generation has no suffix."""
    return name if generation == 1 else f"{name}-{generation}"
