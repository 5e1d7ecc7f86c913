"""The output of `groundwork rotate status`: ages, expiry, rotations in progress, and presented certificates."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.spec.rotation import AUTHORITY, CERTIFICATES, NAMES, REPLACED_AT_ONCE, Phase
from ops.errors import OpsError
from ops.rotation.ages import Certificate, PasswordAge, certificates_of, is_same, passwords_of
from ops.rotation.certificates import SERVERS, server_addresses
from ops.rotation.presented_certificate import presented_certificate
from ops.rotation.steps import has_begun

if TYPE_CHECKING:
    from ops.rotation.subject import RotatedStack


@dataclass(frozen=True)
class RotationReport:
    """Ages and expiry at time `now`. `due`: what to rotate, with the command. `mismatches`: what is wrong."""

    stack: str
    now: dt.datetime
    passwords: tuple[PasswordAge, ...]
    certificates: tuple[Certificate, ...]
    # server -> whether it presents the state's certificate, or None if it presents none
    served: dict[str, bool | None]
    due: tuple[str, ...]
    mismatches: tuple[str, ...]
    # Why the logins were not compared with the stack, or empty.
    uncompared: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "stack": self.stack,
            "passwords": {
                p.role: {
                    "login": p.login,
                    "generation": p.generation,
                    "phase": p.phase,
                    "madeAt": p.made_at.isoformat() if p.made_at else None,
                    "ageDays": p.days(self.now),
                }
                for p in self.passwords
            },
            "certificates": {
                c.name: c.as_json() | ({"isServed": self.served[c.name]} if c.name in self.served else {})
                for c in self.certificates
            },
            "due": list(self.due),
            "mismatches": list(self.mismatches),
            "loginsCompared": not self.uncompared,
        }

    def as_lines(self) -> list[str]:
        lines = [f"{'role':<12}{'login':<14}{'generation':<12}{'age':<12}phase"]
        for p in self.passwords:
            days = p.days(self.now)
            age = "unknown" if days is None else f"{days} days"
            lines.append(f"{p.role:<12}{p.login or '':<14}{p.generation:<12}{age:<12}{p.phase}")
        lines += ["", f"{'certificate':<14}{'expires':<14}{'left':<12}served"]
        words = {True: "yes", False: "another one", None: "no answer"}
        for c in self.certificates:
            served = words[self.served[c.name]] if c.name in self.served else ""
            lines.append(
                f"{c.name:<14}{c.ends_at:%Y-%m-%d}    {f'{c.days_left(self.now)} days':<12}{served}".rstrip()
            )
        uncompared = (f"logins were not compared: {self.uncompared}",) if self.uncompared else ()
        return [*lines, "", *(self.mismatches + self.due or ("nothing is due",)), *uncompared]


def report_on(stack: RotatedStack, *, max_age_days: int | None, within_days: int) -> RotationReport:
    """Collect the report. Raise OpsError (6) if the stack was never up."""
    addresses = server_addresses(stack.known_outputs())
    rotation, now = stack.wanted(), dt.datetime.now(dt.UTC)
    # A rotation of a server's password waits while the stack has no replicas.
    names = [name for name in NAMES if name in (*stack.roles(), AUTHORITY, CERTIFICATES)]
    passwords, certificates = passwords_of(stack, rotation), certificates_of(stack)
    served = {
        c.name: None
        if (pem := presented_certificate(c.name, addresses[c.name])) is None
        else is_same(pem, c.pem)
        for c in certificates
        if c.name in addresses
    }
    due = []
    applied = stack.applied()
    unfinished = [name for name in names if rotation.of(name) != applied.of(name)]
    running = stack.running_rotation()
    if running:
        due.append(f"rotation is running {running}; wait until it has finished")
    elif unfinished:
        due.append(
            f"a step is unfinished for {', '.join(unfinished)};"
            f" run the same `groundwork rotate` command again, or `groundwork up --stack {stack.name}`"
        )
    for name in () if running else names:
        if (phase := rotation.of(name).phase) is Phase.AT_REST:
            if name not in unfinished and has_begun(stack, name):
                due.append(
                    f"{name}: the rotation is not checked; run the same `groundwork rotate` command again"
                )
            continue
        command = "certificates --authority" if name == AUTHORITY else f"passwords {name}"
        if phase is Phase.PREPARED:
            new = "is not in use yet"
        elif name in REPLACED_AT_ONCE:
            new = "is in use" if name not in unfinished else "may not be in use yet"
        else:
            new = "is in use, and the old one is still accepted"
        due.append(
            f"{name}: the new one {new}; resume with `groundwork rotate {command} --stack {stack.name}`"
        )
    for p in passwords:
        days = p.days(now)
        if max_age_days is not None and days is not None and days > max_age_days:
            due.append(
                f"{p.role}: the password is {days} days old;"
                f" run `groundwork rotate passwords {p.role} --stack {stack.name}`"
            )
    for c in certificates:
        if c.is_due(within_days, now):
            option = "" if c.name in SERVERS else " --authority"
            ends = "has expired" if c.ends_at < now else f"expires in {c.days_left(now)} days"
            if c.starts_at > now:
                ends = (
                    f"is not valid before {c.starts_at:%Y-%m-%d %H:%M} UTC, because this machine's clock was ahead when"
                    " it was made, or is behind now; check the clock"
                )
            due.append(
                f"{c.name}: the certificate {ends}; run `groundwork rotate certificates{option} --stack {stack.name}`"
            )
    # A server loads its new certificate some time after the state has it.
    is_renewing = running or not {AUTHORITY, CERTIFICATES}.isdisjoint(unfinished)
    mismatches = tuple(
        f"{name} presents another certificate than the stack's;"
        f" fix it with `groundwork rotate certificates --stack {stack.name}`"
        for name, is_served in served.items()
        if is_served is False and not is_renewing
    )
    repair = f"`groundwork up --stack {stack.name}` repairs it"
    uncompared = ""
    if not running:
        try:
            mismatches += tuple(f"{difference}; {repair}" for difference in stack.login_differences())
        except OpsError as error:
            # The ages and the expiry dates may tell why.
            uncompared = str(error)
    return RotationReport(
        stack=stack.name,
        now=now,
        passwords=passwords,
        certificates=certificates,
        served=served,
        due=tuple(due),
        mismatches=mismatches,
        uncompared=uncompared,
    )
