"""The location of the states, from the environment, and refusal of a state that nobody else could decrypt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.spec.checkout import STATE_VARIABLE, Checkout
from infra.spec.variables import EmptyVariable
from ops.errors import Exit, OpsError
from ops.toolchain.state_backend import SECRETS_PROVIDER, URL, StateBackend
from tests.cases import in_case

BUCKET, KEY = "s3://states?region=eu-central-1", "awskms:///alias/states?region=eu-central-1"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    for name in (URL, SECRETS_PROVIDER):
        monkeypatch.delenv(name, raising=False)
    return Checkout(tmp_path, "abcdef", tmp_path / "state", tmp_path / "cache")


def test_the_default_is_a_folder_on_this_machine(checkout: Checkout) -> None:
    backend = StateBackend.of(checkout)
    assert backend.is_local
    assert backend.url == f"file://{checkout.backend_dir}?metadata=skip"
    assert backend.secrets_provider == ""


def test_a_folder_that_pulumi_cannot_read_as_a_url_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout may have such a name, e.g. that of a branch, because the name of its state folder is changed."""
    monkeypatch.delenv(URL, raising=False)
    for name in ("feature%2Flogin", "c#", "what?"):
        monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
        checkout = Checkout.here(tmp_path / name)
        with in_case(name):
            assert StateBackend.of(checkout).url == f"file://{checkout.state_dir}/pulumi?metadata=skip"
            monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / name))
            with pytest.raises(OpsError, match=f"/{re.escape(name)} has . in its path.*set {STATE_VARIABLE}"):
                StateBackend.of(Checkout.here(tmp_path))


@pytest.mark.parametrize("name", [URL, SECRETS_PROVIDER])
def test_an_empty_variable_is_refused(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A workflow passes an unset repository variable as an empty one. The state must not become a local one."""
    monkeypatch.setenv(name, "")
    with pytest.raises(EmptyVariable, match=name):
        StateBackend.of(checkout)


def test_a_bucket_with_a_key_is_used_unchanged(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, BUCKET)
    monkeypatch.setenv(SECRETS_PROVIDER, KEY)
    assert StateBackend.of(checkout) == StateBackend(BUCKET, KEY, False)


@pytest.mark.parametrize(
    ("url", "provider", "said"),
    [
        (BUCKET, None, "only this machine would have the passphrase"),
        (BUCKET, "passphrase", f"{SECRETS_PROVIDER} must begin with awskms://"),
        ("https://app.example", KEY, f"{URL} must begin with s3://"),
        ("file:///tmp", KEY, f"{URL} must begin with s3://"),
    ],
)
def test_a_state_that_others_could_not_use_is_refused(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, url: str, provider: str | None, said: str
) -> None:
    monkeypatch.setenv(URL, url)
    if provider is not None:
        monkeypatch.setenv(SECRETS_PROVIDER, provider)
    with pytest.raises(OpsError, match=said.replace("(", r"\(")) as refused:
        StateBackend.of(checkout)
    assert refused.value.exit_code == Exit.USAGE
