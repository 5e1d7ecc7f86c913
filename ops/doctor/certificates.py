"""The expiry of the certificates that the servers present, and of the stack's certificate authority."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from infra.docker.members import expired_members, primary_of, renewal
from infra.spec.postgres_cluster import MEMBERS
from ops.doctor.check_result import STACK_OPTION, CheckResult, CheckStatus, fail, judged, skipped, worst
from ops.doctor.examination import Examination
from ops.servers.errors import one_line
from ops.servers.monitored_stack import MonitoredStack

_SECONDS = 3.0
# Length and code of the message with which a client requests TLS from Postgres.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)

_AUTHORITY, _POSTGRES = "the authority's", "Postgres's"
# The end of a certificate that cannot be read.
_EXPIRED = datetime.min.replace(tzinfo=UTC)
_RENEW = f"run `groundwork up{STACK_OPTION}`, which renews a server's certificate in its last 30 days"
_RENEW_AUTHORITY = (
    f"run `groundwork rotate certificates --authority{STACK_OPTION}`, because `up` does not renew it"
)


def certificates(examination: Examination) -> CheckResult:
    """certificates: check expiry. The certificates are read without verification, because they may have expired."""
    stack = examination.stack
    found: dict[str, x509.Certificate] = {}
    unread: list[str] = []
    postgres = _numbered("Postgres", (stack.postgres_address, *stack.replica_addresses))
    for name, address in {**postgres, **_numbered("Redis", stack.redis_addresses)}.items():
        try:
            found[f"{name}'s"] = _presented_by(address, asks_first=name in postgres)
        except (OSError, ValueError) as error:
            unread.append(f"cannot read {name}'s: {one_line(error)}")
    try:
        found[_AUTHORITY] = _in_file(stack.ca_file)
    except (OSError, ValueError) as error:
        unread.append(f"cannot read the authority's: {one_line(error)}")
    ends = {name: certificate.not_valid_after_utc for name, certificate in found.items()}
    if ends.get(_POSTGRES, _EXPIRED).timestamp() < examination.now() and (lost := _lost(stack)):
        return fail(
            f"there is no primary, because certificates have expired: {', '.join(lost)}",
            renewal(STACK_OPTION),
            unread,
        )
    if not found:
        return skipped("; ".join(unread))
    early = {
        name: certificate.not_valid_before_utc
        for name, certificate in found.items()
        if certificate.not_valid_before_utc.timestamp() > examination.now()
    }
    days = {name: (end.timestamp() - examination.now()) / 86400 for name, end in ends.items()}
    first = min(days, key=days.__getitem__)
    statuses = {
        name: _judge(left, examination.thresholds.certificate_days_warn) for name, left in days.items()
    } | dict.fromkeys(early, CheckStatus.FAIL)
    # With a new authority, the servers get new certificates too.
    is_authority_due = statuses.get(_AUTHORITY, CheckStatus.OK) is not CheckStatus.OK
    text = f"{first} expired {-days[first]:.0f} days ago" if days[first] < 0 else _next(first, days[first])
    advice = _RENEW_AUTHORITY if is_authority_due and stack.postgres_container else _RENEW
    if early:
        name, start = next(iter(early.items()))
        text = f"{name} is not valid before {start:%Y-%m-%d %H:%M} UTC"
        advice = (
            "check this machine's clock: it was ahead when the certificate was made, or is behind now; if it is right,"
            f" {advice}"
        )
    if unread and worst([*statuses.values()]) is CheckStatus.OK:
        advice = "see this server's other checks: nothing is known to expire"
    return judged(
        worst([*statuses.values(), *([CheckStatus.WARN] if unread else [])]),
        "; ".join([text, *unread]),
        advice,
        [f"{name} expires {end:%Y-%m-%d %H:%M} UTC, in {days[name]:.0f} days" for name, end in ends.items()],
    )


def _lost(stack: MonitoredStack) -> list[str]:
    """Return the members of a cluster whose certificates have expired, if there is no primary: `up` needs one."""
    first = stack.members.get(MEMBERS[0])
    return [] if first is None or primary_of(dict(stack.members)) else expired_members(first)


def _numbered(name: str, addresses: Sequence[tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Return the addresses by name: Redis, Redis 2, Redis 3."""
    return {name if n == 1 else f"{name} {n}": address for n, address in enumerate(addresses, 1)}


def _next(name: str, days: float) -> str:
    return f"the next to expire is {name}, in {days:.0f} days"


def _judge(days: float, warn_days: float) -> CheckStatus:
    if days < 0:
        return CheckStatus.FAIL
    return CheckStatus.WARN if days < warn_days else CheckStatus.OK


def _presented_by(address: tuple[str, int], *, asks_first: bool) -> x509.Certificate:
    """Return the certificate a server presents. No secret is sent to the unverified server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(address, timeout=_SECONDS) as connection:
        if asks_first:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                raise ConnectionError("the server does not accept TLS")
        with context.wrap_socket(connection, server_hostname=address[0]) as secured:
            der = secured.getpeercert(binary_form=True)
    if not der:
        raise ConnectionError("the server presented no certificate")
    return x509.load_der_x509_certificate(der)


def _in_file(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())
