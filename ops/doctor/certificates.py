"""When the certificates end: those that the servers present now, and the stack's authority."""

from __future__ import annotations

import socket
import ssl
import struct
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, Status, judged, skipped, worst
from ops.server_errors import one_line

_SECONDS = 3.0
# Length and code of the message by which a client asks Postgres for TLS.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def certificates(examination: Examination) -> Finding:
    """certificates: read without trusting them, for an expired one is what is looked for."""
    stack = examination.stack
    ends: dict[str, datetime] = {}
    unread: list[str] = []
    for name, address in (("Postgres", stack.postgres_address), ("Redis", stack.redis_address)):
        try:
            ends[f"{name}'s"] = _presented_by(address, asks_first=name == "Postgres")
        except (OSError, ValueError) as error:
            unread.append(f"{name}'s was not read: {one_line(error)}")
    try:
        ends["the authority's"] = _in_file(stack.ca_file)
    except (OSError, ValueError) as error:
        unread.append(f"the authority's was not read: {one_line(error)}")
    if not ends:
        return skipped("; ".join(unread))
    days = {name: (end.timestamp() - examination.now()) / 86400 for name, end in ends.items()}
    first = min(days, key=days.__getitem__)
    statuses = [_judge(left, examination.thresholds.certificate_days_warn) for left in days.values()]
    text = f"{first} ended {-days[first]:.0f} days ago" if days[first] < 0 else _next(first, days[first])
    return judged(
        worst([*statuses, *([Status.WARN] if unread else [])]),
        "; ".join([text, *unread]),
        "`groundwork up` signs a new one within the last 30 days of the old",
        [f"{name} ends {end:%Y-%m-%d %H:%M} UTC, in {days[name]:.0f} days" for name, end in ends.items()],
    )


def _next(name: str, days: float) -> str:
    return f"the next to end is {name}, in {days:.0f} days"


def _judge(days: float, warn_days: float) -> Status:
    if days < 0:
        return Status.FAIL
    return Status.WARN if days < warn_days else Status.OK


def _presented_by(address: tuple[str, int], *, asks_first: bool) -> datetime:
    """The end of the certificate a server presents; nothing is sent that it could misuse."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(address, timeout=_SECONDS) as connection:
        if asks_first:
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) != b"S":
                raise ConnectionError("the server takes no TLS")
        with context.wrap_socket(connection, server_hostname=address[0]) as secured:
            der = secured.getpeercert(binary_form=True)
    if not der:
        raise ConnectionError("the server presented no certificate")
    return x509.load_der_x509_certificate(der).not_valid_after_utc.astimezone(UTC)


def _in_file(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
