"""Where states are kept, by the environment; and what is refused because nobody else could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.spec.world import World
from ops.errors import Exit, OpsError
from ops.toolchain.state_backend import SECRETS_PROVIDER, URL, StateBackend

BUCKET, KEY = "s3://states?region=eu-central-1", "awskms:///alias/states?region=eu-central-1"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in (URL, SECRETS_PROVIDER):
        monkeypatch.delenv(name, raising=False)
    return World(tmp_path, "abcdef", tmp_path / "state", tmp_path / "cache")


def test_it_is_a_folder_of_this_machine_unless_said_otherwise(world: World) -> None:
    backend = StateBackend.of(world)
    assert backend.is_local
    assert backend.url == f"file://{world.backend_dir}?metadata=skip"
    assert backend.secrets_provider == ""


def test_an_empty_variable_is_none(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a workflow passes a repository's variable that nobody has set."""
    monkeypatch.setenv(URL, "")
    monkeypatch.setenv(SECRETS_PROVIDER, "")
    assert StateBackend.of(world).is_local


def test_a_bucket_with_a_key_is_taken_as_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, BUCKET)
    monkeypatch.setenv(SECRETS_PROVIDER, KEY)
    assert StateBackend.of(world) == StateBackend(BUCKET, KEY, False)


@pytest.mark.parametrize(
    ("url", "provider", "said"),
    [
        (BUCKET, "", "a passphrase that this machine alone has"),
        (BUCKET, "passphrase", f"{SECRETS_PROVIDER} has to begin with awskms://"),
        ("https://app.example", KEY, f"{URL} has to begin with s3://"),
        ("file:///tmp", KEY, f"{URL} has to begin with s3://"),
    ],
)
def test_what_nobody_else_could_use_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, url: str, provider: str, said: str
) -> None:
    monkeypatch.setenv(URL, url)
    monkeypatch.setenv(SECRETS_PROVIDER, provider)
    with pytest.raises(OpsError, match=said.replace("(", r"\(")) as refused:
        StateBackend.of(world)
    assert refused.value.exit_code == Exit.USAGE
