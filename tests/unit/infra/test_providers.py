"""The dynamic providers: which changes update a resource, and which do not."""

from __future__ import annotations

import datetime as dt
import os
import pickle
from pathlib import Path

import dill
import pytest

from infra import certificates
from infra.credentials import AuthorityProvider, PasswordProvider, ServerCertificateProvider
from infra.docker import files
from infra.docker.container import PidsLimitProvider
from infra.docker.files import HostFileProvider, VolumeFilesProvider
from infra.docker.health import HealthyProvider
from infra.docker.network import BridgeProvider
from infra.schema import MigrationsProvider, RolesProvider
from tests.cases import in_case
from tests.promises import promise

PROVIDERS = [
    AuthorityProvider,
    BridgeProvider,
    HealthyProvider,
    HostFileProvider,
    MigrationsProvider,
    PasswordProvider,
    PidsLimitProvider,
    RolesProvider,
    ServerCertificateProvider,
    VolumeFilesProvider,
]


def _signed(days: int) -> dict[str, object]:
    authority = certificates.make_authority("test")
    pair = certificates.make_server_certificate(authority, ["localhost"], days=days)
    return {
        "names": ["localhost"],
        "ca_certificate": authority.certificate,
        "ca_private_key": authority.private_key,
        "certificate": pair.certificate,
        "private_key": pair.private_key,
    }


@promise("a certificate is renewed in its last 30 days")
def test_a_certificate_that_expires_soon_is_renewed() -> None:
    cases: list[tuple[int, bool]] = [(10, True), (-1, True), (300, False)]
    for days, renewed in cases:
        with in_case(days, renewed):
            state = _signed(days)
            inputs = {key: state[key] for key in ("names", "ca_certificate", "ca_private_key")}
            assert ServerCertificateProvider().diff("localhost", state, inputs).changes is renewed
            after = ServerCertificateProvider().update("localhost", state, inputs).outs
            assert after is not None
            left = certificates.expires_at(str(after["certificate"])) - dt.datetime.now(dt.UTC)
            assert left > dt.timedelta(days=certificates.RENEW_BEFORE_DAYS)


def test_a_certificate_for_another_name_is_renewed() -> None:
    state = _signed(300)
    inputs = {"names": ["elsewhere"], **{k: state[k] for k in ("ca_certificate", "ca_private_key")}}
    assert ServerCertificateProvider().diff("localhost", state, inputs).changes


def test_a_deleted_host_file_is_written_again(tmp_path: Path) -> None:
    props = {"path": str(tmp_path / "below" / "ca.crt"), "content": "text"}
    provider = HostFileProvider()
    made = provider.create(props)
    assert Path(props["path"]).read_text() == "text"
    assert provider.diff(made.id, props, props).changes is False
    provider.delete(made.id, props)
    provider.delete(made.id, props)
    assert provider.diff(made.id, props, props).changes is True


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_a_host_file_has_a_fixed_mode_regardless_of_the_umask(tmp_path: Path, umask: int) -> None:
    props = {"path": str(tmp_path / "ca.crt"), "content": "text"}
    before = os.umask(umask)
    try:
        HostFileProvider().create(props)
    finally:
        os.umask(before)
    assert Path(props["path"]).stat().st_mode & 0o777 == 0o644


def test_files_for_another_volume_are_replaced_and_another_image_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "_time_of", lambda volume: "2026-01-01")
    old = {"volume": "a", "image": "1", "uid": 1, "files": {"x": "y"}, "volume_time": "2026-01-01"}
    provider = VolumeFilesProvider()
    assert provider.diff("a", old, old | {"image": "2"}).changes is False
    assert provider.diff("a", old, old | {"volume": "b"}).replaces == ["volume"]


@promise("passwords have 256 random bits")
def test_two_passwords_differ_and_have_256_bits() -> None:
    first, second = (PasswordProvider().create({}).outs for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["value"] != second["value"]
    assert len(first["value"]) >= 43


def test_a_provider_is_pickled_by_name() -> None:
    """Pulumi stores the pickle in the state. If the pickle contained code, an old state would always run old code."""
    for provider in PROVIDERS:
        with in_case(provider):
            pickled = dill.dumps(provider(), protocol=pickle.DEFAULT_PROTOCOL, recurse=True)
            assert provider.__module__.encode() in pickled
            assert provider.__name__.encode() in pickled
            assert len(pickled) < 200
