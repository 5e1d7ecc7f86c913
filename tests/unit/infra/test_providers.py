"""The dynamic providers' own decisions: what makes a resource change, and what does not."""

from __future__ import annotations

import datetime as dt
import pickle
from pathlib import Path

import dill
import pytest

from infra import certificates
from infra.credentials import AuthorityProvider, PasswordProvider, ServerCertificateProvider
from infra.docker.container import PidsLimitProvider
from infra.docker.files import HostFileProvider, VolumeFilesProvider
from infra.docker.health import HealthyProvider
from infra.docker.network import BridgeProvider
from infra.schema import MigrationsProvider, RolesProvider

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


@pytest.mark.parametrize(("days", "renewed"), [(10, True), (-1, True), (300, False)])
def test_a_certificate_that_ends_soon_is_signed_anew(days: int, renewed: bool) -> None:
    state = _signed(days)
    inputs = {key: state[key] for key in ("names", "ca_certificate", "ca_private_key")}
    assert ServerCertificateProvider().diff("localhost", state, inputs).changes is renewed
    after = ServerCertificateProvider().update("localhost", state, inputs).outs
    assert after is not None
    left = certificates.expires_at(str(after["certificate"])) - dt.datetime.now(dt.UTC)
    assert left > dt.timedelta(days=certificates.RENEW_BEFORE_DAYS)


def test_a_certificate_for_another_name_is_signed_anew() -> None:
    state = _signed(300)
    inputs = {"names": ["elsewhere"], **{k: state[k] for k in ("ca_certificate", "ca_private_key")}}
    assert ServerCertificateProvider().diff("localhost", state, inputs).changes


def test_a_host_file_that_was_removed_comes_back(tmp_path: Path) -> None:
    props = {"path": str(tmp_path / "below" / "ca.crt"), "content": "text"}
    provider = HostFileProvider()
    made = provider.create(props)
    assert Path(props["path"]).read_text() == "text"
    assert provider.diff(made.id, props, props).changes is False
    provider.delete(made.id, props)
    provider.delete(made.id, props)
    assert provider.diff(made.id, props, props).changes is True


def test_files_move_to_another_volume_by_replacement_and_ignore_another_image() -> None:
    old = {"volume": "a", "image": "1", "uid": 1, "files": {"x": "y"}}
    provider = VolumeFilesProvider()
    assert provider.diff("a", old, old | {"image": "2"}).changes is False
    assert provider.diff("a", old, old | {"volume": "b"}).replaces == ["volume"]


def test_two_passwords_differ_and_hold_256_bits() -> None:
    first, second = (PasswordProvider().create({}).outs for _ in range(2))
    assert first is not None
    assert second is not None
    assert first["value"] != second["value"]
    assert len(first["value"]) >= 43


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.__name__)
def test_a_provider_is_pickled_by_name_so_that_a_changed_one_can_still_delete(provider: type) -> None:
    """Pulumi keeps the pickle in the state: were the code in it, an old state would run old code for good."""
    pickled = dill.dumps(provider(), protocol=pickle.DEFAULT_PROTOCOL, recurse=True)
    assert provider.__module__.encode() in pickled
    assert provider.__name__.encode() in pickled
    assert len(pickled) < 200
