"""Renews servers' certificates, and the authority that signs them: handed out first, then used, then alone.

Servers take a certificate up for the connections that come; those that are open stay.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra import outputs
from infra.spec.rotation import AUTHORITY, CERTIFICATES, Phase
from ops.errors import Exit, OpsError
from ops.rotation.ages import Certificate, certificates_of, is_same
from ops.rotation.served import served_certificate
from ops.rotation.steps import Plan, Say, finish_interrupted, take_steps

if TYPE_CHECKING:
    from ops.rotation.subject import RotatedStack

SERVERS = {"postgres": outputs.POSTGRES, "redis": outputs.REDIS}
# Postgres reloads when it gets to it.
_RELOAD_SECONDS = 15.0


@dataclass
class Done:
    """What was renewed: `servers`, `authority`, or nothing; and the certificates as they are now.

    `old_is_trusted`: clients still have an authority that no server's certificate is signed by any more.
    """

    renewed: tuple[str, ...]
    resumed: bool
    certificates: tuple[Certificate, ...]
    old_is_trusted: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "renewed": list(self.renewed),
            "resumed": self.resumed,
            "oldAuthority": "trusted" if self.old_is_trusted else "gone",
            "certificates": {certificate.name: certificate.as_json() for certificate in self.certificates},
        }


def rotate_certificates(
    stack: RotatedStack, *, within_days: int | None, say: Say, sleep: Callable[[float], None] = time.sleep
) -> Done:
    """New certificates for the servers, under the same authority; with `within_days` only where one ends by then."""
    is_interrupted = stack.wanted().of(CERTIFICATES) != stack.applied().of(CERTIFICATES)
    finish_interrupted(stack, say)
    if not is_interrupted:
        now = _now()
        if not any(c.ends_within(within_days, now) for c in certificates_of(stack) if c.name in SERVERS):
            say(f"no server's certificate ends within {within_days} days")
            return Done((), False, certificates_of(stack))
        say("step 1 of 1, servers: new certificates are taken up")
        stack.apply(stack.wanted().renew(CERTIFICATES, now))
    _await_served(stack, sleep)
    return Done(("servers",), is_interrupted, certificates_of(stack))


def rotate_authority(
    stack: RotatedStack,
    *,
    within_days: int | None,
    grace_seconds: float,
    keep_old: bool,
    say: Say,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """A new authority, and servers' certificates by it; a begun one goes on where it is.

    Clients have `grace_seconds` to take up the file with both authorities before servers change.
    """

    def wait(prepared_at: dt.datetime) -> None:
        left = grace_seconds - (_now() - prepared_at).total_seconds()
        if left > 0:
            say(f"clients have {left:.0f} s to take up the file with both authorities")
            sleep(left)

    wanted = stack.wanted().of(AUTHORITY)
    if wanted.phase is Phase.AT_REST and wanted == stack.applied().of(AUTHORITY):
        authorities = [c for c in certificates_of(stack) if c.name not in SERVERS]
        if not any(c.ends_within(within_days, _now()) for c in authorities):
            say(f"the authority does not end within {within_days} days")
            return Done((), False, certificates_of(stack))
    plan = Plan(
        names=(AUTHORITY,),
        prepare="clients are handed the new one beside the old one",
        move="servers take up certificates by the new one",
        retire="clients no longer trust the old one",
        before_moving=wait,
        before_retiring=lambda _: _await_served(stack, sleep),
    )
    course = take_steps(stack, plan, keep_old=keep_old, say=say)
    _await_served(stack, sleep)
    return Done(
        ("servers", "authority"),
        bool(course.resumed),
        certificates_of(stack),
        old_is_trusted=not course.is_over,
    )


def _await_served(stack: RotatedStack, sleep: Callable[[float], None]) -> None:
    """Until both servers present what the state says. OpsError (4 or 6): then what clients trust stays as it is."""
    addresses = stack.known_outputs()
    expected = {c.name: c.pem for c in certificates_of(stack) if c.name in SERVERS}
    deadline = time.monotonic() + _RELOAD_SECONDS
    for server, output in SERVERS.items():
        while not is_same(found := served_certificate(server, addresses[output]), expected[server]):
            if time.monotonic() > deadline:
                problem = "presents no certificate" if found is None else "still presents another certificate"
                raise OpsError(
                    f"{server} {problem}; look at `groundwork logs --service {server}`, then run this again",
                    Exit.UNREACHABLE if found is None else Exit.MISMATCH,
                )
            sleep(0.2)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
