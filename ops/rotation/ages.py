"""Ages of a stack's passwords and expiry of its certificates, read from the Pulumi state."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.spec import postgres_cluster, redis_replication
from infra.spec import roles as postgres_roles
from infra.spec.redis_acl import LOCAL_USERS, SERVER_USERS
from infra.spec.rotation import AUTHORITY, Rotation
from ops.rotation.passwords import login_in_use

if TYPE_CHECKING:
    from cryptography import x509

    from ops.rotation.subject import RotatedStack


@dataclass(frozen=True)
class PasswordAge:
    """The password that a role uses. `made_at` (UTC) is None if the state does not record it."""

    role: str
    login: str | None
    generation: int
    phase: str
    made_at: dt.datetime | None

    def days(self, now: dt.datetime) -> int | None:
        return (now - self.made_at).days if self.made_at else None


@dataclass(frozen=True)
class Certificate:
    """A certificate (PEM) of the stack: a server's or an authority's."""

    name: str
    pem: str

    @property
    def starts_at(self) -> dt.datetime:
        return self._loaded.not_valid_before_utc

    @property
    def ends_at(self) -> dt.datetime:
        return self._loaded.not_valid_after_utc

    def days_left(self, now: dt.datetime) -> int:
        return (self.ends_at - now).days

    def is_due(self, days: int | None, now: dt.datetime) -> bool:
        """Return whether the certificate expires within `days`, or is not valid yet; True for None."""
        return days is None or self.ends_at - now < dt.timedelta(days=days) or self.starts_at > now

    def as_json(self) -> dict[str, Any]:
        return {"endsAt": self.ends_at.isoformat(), "daysLeft": self.days_left(dt.datetime.now(dt.UTC))}

    @property
    def _loaded(self) -> x509.Certificate:
        from cryptography import x509

        return x509.load_pem_x509_certificate(self.pem.encode())


def passwords_of(stack: RotatedStack, rotation: Rotation) -> tuple[PasswordAge, ...]:
    """Return the age of each role's password."""
    resources = stack.resources()
    found = []
    for role in stack.roles():
        generation = rotation.of(role)
        suffix = "" if generation.in_use == 1 else f"-{generation.in_use}"
        names = [f"redis-{user.name}{suffix}" for user in (*LOCAL_USERS, *SERVER_USERS) if user.name == role]
        if role in postgres_roles.LOGINS:
            names.append(f"postgres-{login_in_use(rotation, role)}{suffix}")
        made = [text for name in names if (text := resources.get(name, {}).get("created"))]
        found.append(
            PasswordAge(
                role,
                login_in_use(rotation, role),
                generation.in_use,
                generation.phase.value,
                min((dt.datetime.fromisoformat(text) for text in made), default=None),
            )
        )
    return tuple(found)


def certificates_of(stack: RotatedStack) -> tuple[Certificate, ...]:
    """Return the servers' certificates, and every authority that clients trust."""
    resources = stack.resources()
    servers = {
        name: f"{name}-certificate" for name in (*postgres_cluster.MEMBERS, *redis_replication.SERVER_NAMES)
    }
    authorities = {name: name for name in sorted(resources) if name.split("-")[0] == AUTHORITY}
    return tuple(
        Certificate(name, resources[resource]["outputs"]["certificate"])
        for name, resource in {**servers, **authorities}.items()
        if resource in resources
    )


def is_same(one: str | None, other: str) -> bool:
    """Return whether two PEM texts are the same certificate."""
    from cryptography import x509

    return one is not None and (
        x509.load_pem_x509_certificate(one.encode()) == x509.load_pem_x509_certificate(other.encode())
    )
