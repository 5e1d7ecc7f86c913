"""The certificate that a server presents: asked for by a TLS handshake, whoever signed it and however old it is."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

# How a client of Postgres asks for TLS: length 8, code 80877103 (the protocol's SSLRequest).
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_SECONDS = 5.0


def served_certificate(server: str, address: Mapping[str, Any]) -> str | None:
    """The PEM certificate that `postgres` or `redis` presents at {"host", "port"}; None where it presents none."""
    # Looked at, not trusted: nothing is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address["host"], int(address["port"])), timeout=_SECONDS) as plain:
            if server == "postgres":
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    return None
            with context.wrap_socket(plain, server_hostname=address["host"]) as secured:
                der = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return ssl.DER_cert_to_PEM_cert(der) if der else None
