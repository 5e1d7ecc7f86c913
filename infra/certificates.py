"""Create and read X.509 certificates for the stack's own certificate authority. Does not use Pulumi or files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
SERVER_DAYS = 397
# The next `up` renews a certificate that expires sooner than this.
RENEW_BEFORE_DAYS = 30


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: str
    private_key: str


def make_authority(common_name: str, days: int = CA_DAYS) -> KeyPair:
    """Create a self-signed authority that may sign server certificates, but no intermediate authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(builder.sign(key, hashes.SHA256()), key)


def make_server_certificate(
    authority: KeyPair, names: Sequence[str], days: int = SERVER_DAYS, *, for_clients: bool = False
) -> KeyPair:
    """Create a server certificate for host names and IP addresses. The first name is its common name.

    With `for_clients` it is valid for clients too.
    A negative number of `days` creates an expired certificate, for tests.
    """
    signer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer_key = serialization.load_pem_private_key(authority.private_key.encode(), password=None)
    assert isinstance(signer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] + ([ExtendedKeyUsageOID.CLIENT_AUTH] if for_clients else [])
    builder = (
        _builder(subject, signer.subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(n) for n in names]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key()),
            critical=False,
        )
    )
    return _pem(builder.sign(signer_key, hashes.SHA256()), key)


def expires_at(certificate: str) -> dt.datetime:
    """Return when a PEM certificate expires, in UTC."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def needs_renewal(certificate: str, now: dt.datetime | None = None) -> bool:
    """Return whether a certificate expires within RENEW_BEFORE_DAYS, or is not valid yet.

    It is not valid yet if it was made while the clock was ahead, and the clock has been corrected.
    """
    now = now or dt.datetime.now(dt.UTC)
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    return (
        loaded.not_valid_after_utc - now < dt.timedelta(days=RENEW_BEFORE_DAYS)
        or loaded.not_valid_before_utc > now
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: int,
) -> x509.CertificateBuilder:
    end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
    # Start an hour in the past for clients whose clocks are behind, and always before the end.
    start = min(dt.datetime.now(dt.UTC), end) - dt.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(**used: bool) -> x509.KeyUsage:
    usages = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**(usages | used))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
