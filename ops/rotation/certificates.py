"""Renew servers' certificates and their authority. A new authority is distributed first, then used, then alone.

Servers use a new certificate for new connections. Open connections are kept.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra import outputs
from infra.spec import postgres_cluster, redis_replication
from infra.spec.rotation import AUTHORITY, CERTIFICATES
from ops.errors import Exit, OpsError
from ops.rotation.ages import Certificate, certificates_of, is_same
from ops.rotation.presented_certificate import presented_certificate
from ops.rotation.steps import (
    RotationPlan,
    Say,
    apply,
    conclude,
    finish_interrupted,
    has_begun,
    take_steps,
)

if TYPE_CHECKING:
    from ops.rotation.subject import RotatedStack

# The servers that this machine reaches. Sentinels get new certificates too, and are replaced for them.
SERVERS = (*postgres_cluster.MEMBERS, *redis_replication.SERVER_NAMES)
# Postgres reloads asynchronously.
_RELOAD_SECONDS = 15.0


@dataclass
class CertificateRotation:
    """The result of a rotation: what was renewed (`servers`, `authority` or nothing), and the current certificates.

    `old_is_trusted`: clients trust two authorities, because the rotation of the authority has not taken its last step.
    """

    renewed: tuple[str, ...]
    resumed: bool
    certificates: tuple[Certificate, ...]
    old_is_trusted: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "renewed": list(self.renewed),
            "resumed": self.resumed,
            "oldAuthority": "trusted" if self.old_is_trusted else "gone",
            "certificates": {certificate.name: certificate.as_json() for certificate in self.certificates},
        }


def rotate_certificates(
    stack: RotatedStack, *, within_days: int | None, say: Say, sleep: Callable[[float], None] = time.sleep
) -> CertificateRotation:
    """Renew the servers' certificates with the same authority; with `within_days`, only if one expires by then."""
    ended = (CERTIFICATES,) if has_begun(stack, CERTIFICATES) else ()
    finish_interrupted(stack, say)
    if ended:
        stack.require_healthy()
    else:
        now = _now()
        if not any(c.is_due(within_days, now) for c in certificates_of(stack) if c.name in SERVERS):
            say(f"no server's certificate expires within {within_days} days")
            return _result(stack, (), is_resumed=False)
        say("step 1 of 1, servers: installing new certificates")
        apply(stack, stack.wanted().renew(CERTIFICATES, now))
    _await_served(stack, sleep)
    conclude(stack, (CERTIFICATES,), ended, say)
    return _result(stack, ("servers",), is_resumed=bool(ended))


def rotate_authority(
    stack: RotatedStack,
    *,
    within_days: int | None,
    grace_seconds: float,
    keep_old: bool,
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
) -> CertificateRotation:
    """Rotate the authority and renew the servers' certificates, or resume a rotation that has begun.

    With `within_days`, an authority that does not expire by then is kept, and only due server certificates are renewed.
    Clients have `grace_seconds` to load the file with both authorities before the servers change.
    """

    def wait(prepared_at: dt.datetime) -> None:
        left = grace_seconds - (_now() - prepared_at).total_seconds()
        if left > 0:
            say(f"clients have {left:.0f} s to load the file with both authorities")
            sleep(left)

    if not has_begun(stack, AUTHORITY):
        authorities = [c for c in certificates_of(stack) if c.name not in SERVERS]
        if not any(c.is_due(within_days, _now()) for c in authorities):
            say(f"the authority does not expire within {within_days} days")
            return rotate_certificates(stack, within_days=within_days, say=say, sleep=sleep)
    plan = RotationPlan(
        names=(AUTHORITY,),
        prepare="distributing the new authority to clients, next to the old one",
        move="installing certificates of the new authority on the servers",
        retire="removing the old authority from clients",
        before_moving=wait,
        before_retiring=lambda _: _await_served(stack, sleep),
    )
    course = take_steps(stack, plan, keep_old=keep_old, say=say)
    _await_served(stack, sleep)
    conclude(stack, (AUTHORITY, CERTIFICATES), course.ended, say)
    return _result(stack, ("servers", "authority"), is_resumed=bool(course.resumed))


def server_addresses(values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the {"host", "port"} of each server, from the stack outputs."""
    postgres = [values[outputs.POSTGRES], *values.get(outputs.POSTGRES_REPLICAS, ())]
    redis = values.get(outputs.REDIS_SERVERS) or [values[outputs.REDIS]]
    return {
        **dict(zip(postgres_cluster.MEMBERS, postgres, strict=False)),
        **dict(zip(redis_replication.SERVER_NAMES, redis, strict=False)),
    }


def _result(stack: RotatedStack, renewed: tuple[str, ...], *, is_resumed: bool) -> CertificateRotation:
    is_old_trusted = len(stack.applied().of(AUTHORITY).accepted) > 1
    return CertificateRotation(renewed, is_resumed, certificates_of(stack), is_old_trusted)


def _await_served(stack: RotatedStack, sleep: Callable[[float], None]) -> None:
    """Wait until all servers present the certificates of the state. Raise OpsError (4 or 6) on timeout."""
    addresses = server_addresses(stack.known_outputs())
    expected = {c.name: c.pem for c in certificates_of(stack) if c.name in SERVERS}
    deadline = time.monotonic() + _RELOAD_SECONDS
    for server, address in addresses.items():
        while not is_same(found := presented_certificate(server, address), expected[server]):
            if time.monotonic() > deadline:
                problem = "presents no certificate" if found is None else "still presents another certificate"
                raise OpsError(
                    f"{server} {problem}; see `groundwork logs --stack {stack.name} --service {server}`, then run this"
                    " command again",
                    Exit.UNREACHABLE if found is None else Exit.MISMATCH,
                )
            sleep(0.2)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
