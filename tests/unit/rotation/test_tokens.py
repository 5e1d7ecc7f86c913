"""Which keys a rotation of tokens uses, and which ones it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import Exit, OpsError
from ops.rotation.tokens import token_keys
from tests.unit.commands.test_foreign_text import answers

K1, K2, K3 = (f"k{n}:{letter * 43}" for n, letter in enumerate("ABC", 1))
URL = "postgresql://localhost/x"
NAMES = ("DATABASE_URL", "DATABASE_URL_FILE", "GROUNDWORK_TOKEN_KEYS", "GROUNDWORK_TOKEN_KEYS_FILE")


@pytest.fixture(autouse=True)
def _stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack with the keys k2 and k1, and an environment without keys and database."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ops.stack.connections.token_keys_of", answers(f"{K2},{K1}"))


@pytest.mark.parametrize("keys", [K1, f"{K1},{K2}", f"{K3},{K2},{K1}"], ids=["k1", "k1,k2", "k3,k2,k1"])
@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_another_first_key_than_the_stacks_is_refused_for_the_stacks_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keys: str, suffix: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(keys)
    monkeypatch.setenv(f"GROUNDWORK_TOKEN_KEYS{suffix}", str(file) if suffix else keys)
    with pytest.raises(OpsError) as refused:
        token_keys(None, "staging")
    assert refused.value.exit_code == Exit.USAGE
    assert str(refused.value) == (
        f"GROUNDWORK_TOKEN_KEYS{suffix} begins with key '{keys[:2]}', but the keys of stack 'staging' begin with"
        f" 'k2'; unset GROUNDWORK_TOKEN_KEYS{suffix} to use the stack's keys"
    )


def test_the_environments_keys_are_used_if_they_fit_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    # The keys, --url, DATABASE_URL, and the first key used.
    cases = [
        (None, None, None, "k2"),
        (None, URL, None, "k2"),
        (f"{K2},{K3}", None, None, "k2"),
        (K1, URL, None, "k1"),
        (K1, None, URL, "k1"),
    ]
    for keys, url, variable, first in cases:
        with monkeypatch.context() as patch:
            for name, value in (("GROUNDWORK_TOKEN_KEYS", keys), ("DATABASE_URL", variable)):
                if value is not None:
                    patch.setenv(name, value)
            assert token_keys(url, "staging").keyring().current == first, (keys, url, variable)
