"""Read the certificate that a server presents in a TLS handshake, even if it is expired or untrusted."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from typing import Any

# Postgres's SSLRequest message: length 8, code 80877103.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_SECONDS = 5.0


def presented_certificate(server: str, address: Mapping[str, Any]) -> str | None:
    """Return the PEM certificate of `postgres`, `redis` or one of their replicas at {"host", "port"}, or None."""
    # The server is not verified, so no data is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address["host"], int(address["port"])), timeout=_SECONDS) as plain:
            if server.startswith("postgres"):
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    return None
            with context.wrap_socket(plain, server_hostname=address["host"]) as secured:
                der = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return ssl.DER_cert_to_PEM_cert(der) if der else None
