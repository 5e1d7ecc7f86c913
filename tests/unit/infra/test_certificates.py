"""The stack's certificate authority and server certificates, as a TLS library verifies them."""

from __future__ import annotations

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from infra import certificates
from infra.certificates import KeyPair, make_authority, make_server_certificate
from tests.promises import promise

NAMES = ["localhost", "127.0.0.1", "postgres"]


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return make_authority("groundwork tests")


@pytest.fixture(scope="module")
def server(authority: KeyPair) -> KeyPair:
    return make_server_certificate(authority, NAMES)


def _load(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.encode())


def _verify(server: KeyPair, authority: KeyPair, name: str) -> None:
    """Verify a certificate like a client that connects to `name` and trusts `authority`. Raises VerificationError."""
    subject: x509.GeneralName
    try:
        subject = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    store = Store([_load(authority)])
    PolicyBuilder().store(store).build_server_verifier(subject).verify(_load(server), [])


@promise("the CA signs server certificates only, and clients refuse any other CA", control=True)
@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_accepts_each_name(
    server: KeyPair, authority: KeyPair, name: str
) -> None:
    _verify(server, authority, name)


@pytest.mark.parametrize("name", ["redis", "127.0.0.2", "localhost.example.org", "xlocalhost"])
def test_a_client_refuses_another_name(server: KeyPair, authority: KeyPair, name: str) -> None:
    with pytest.raises(VerificationError):
        _verify(server, authority, name)


@promise("the CA signs server certificates only, and clients refuse any other CA")
def test_a_client_refuses_the_certificate_of_another_authority_of_the_same_name(server: KeyPair) -> None:
    with pytest.raises(VerificationError):
        _verify(server, make_authority("groundwork tests"), "localhost")


def test_a_client_refuses_an_expired_certificate(authority: KeyPair) -> None:
    with pytest.raises(VerificationError):
        _verify(make_server_certificate(authority, NAMES, days=-1), authority, "localhost")


def test_a_server_certificate_cannot_sign_another_certificate(authority: KeyPair, server: KeyPair) -> None:
    forged = make_server_certificate(server, ["bank.example.org"])
    store = Store([_load(authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("bank.example.org"))
    with pytest.raises(VerificationError):
        verifier.verify(_load(forged), [_load(server)])


@promise("the CA signs server certificates only, and clients refuse any other CA")
def test_a_server_certificate_is_for_servers_only(server: KeyPair) -> None:
    usage = _load(server).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not _load(server).extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


@promise("the CA signs server certificates only, and clients refuse any other CA")
def test_an_authority_may_sign_server_certificates_but_no_authorities(authority: KeyPair) -> None:
    constraints = _load(authority).extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0


@pytest.mark.parametrize("kind", ["authority", "server"])
def test_the_private_key_belongs_to_the_certificate(kind: str, request: pytest.FixtureRequest) -> None:
    pair: KeyPair = request.getfixturevalue(kind)
    key = load_pem_private_key(pair.private_key.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == _load(pair).public_key()


def test_the_authority_made_the_signature(authority: KeyPair, server: KeyPair) -> None:
    _load(server).verify_directly_issued_by(_load(authority))
    with pytest.raises(InvalidSignature):
        _load(server).verify_directly_issued_by(_load(make_authority("groundwork tests")))


def test_a_certificate_is_valid_for_a_clock_that_is_behind(server: KeyPair) -> None:
    begin = _load(server).not_valid_before_utc
    assert begin <= dt.datetime.now(dt.UTC) - dt.timedelta(minutes=59)


@promise("a certificate is renewed in its last 30 days")
@pytest.mark.parametrize(("days", "due"), [(-1, True), (1, True), (29, True), (31, False), (397, False)])
def test_a_certificate_is_renewed_in_its_last_thirty_days(authority: KeyPair, days: int, due: bool) -> None:
    certificate = make_server_certificate(authority, NAMES, days=days).certificate
    assert certificates.needs_renewal(certificate) is due


def test_a_server_certificate_lasts_no_longer_than_its_authority(authority: KeyPair, server: KeyPair) -> None:
    assert certificates.expires_at(server.certificate) < certificates.expires_at(authority.certificate)


@promise("two checkouts on one machine share no name, port or secret")
def test_two_stacks_share_no_key(authority: KeyPair) -> None:
    assert make_authority("groundwork tests").private_key != authority.private_key


def test_a_certificate_made_while_the_clock_was_ahead_is_renewed(server: KeyPair) -> None:
    now = dt.datetime.now(dt.UTC)
    assert not certificates.needs_renewal(server.certificate, now - dt.timedelta(minutes=50))
    assert certificates.needs_renewal(server.certificate, now - dt.timedelta(hours=2))
