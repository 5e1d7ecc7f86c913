"""The checkout's passphrase: created once, and readable only by its owner."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.spec.checkout import PROJECT, Checkout
from ops.errors import OpsError
from ops.toolchain import passphrase
from tests.promises import promise


def test_only_its_owner_can_read_it(checkout: Checkout) -> None:
    passphrase.ensure(checkout)
    assert stat.S_IMODE(checkout.passphrase_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(checkout.state_dir.stat().st_mode) == 0o700
    assert len(checkout.passphrase_file.read_text().strip()) >= 32


def test_it_is_created_once(checkout: Checkout) -> None:
    passphrase.ensure(checkout)
    first = checkout.passphrase_file.read_text()
    passphrase.ensure(checkout)
    assert checkout.passphrase_file.read_text() == first


def test_processes_that_race_agree_on_one_passphrase(checkout: Checkout) -> None:
    def make(_: int) -> str:
        passphrase.ensure(checkout)
        return checkout.passphrase_file.read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(16)))) == 1
    assert [path.name for path in checkout.state_dir.iterdir()] == ["passphrase"]


@promise("a lost passphrase is never replaced under an existing state")
def test_a_lost_passphrase_of_an_existing_state_is_not_replaced(checkout: Checkout) -> None:
    stacks = checkout.backend_dir / ".pulumi" / "stacks" / PROJECT
    stacks.mkdir(parents=True)
    (stacks / "dev.json").write_text("{}")
    with pytest.raises(
        OpsError, match=r"passphrase is missing, .* cannot be decrypted without it; restore it"
    ):
        passphrase.ensure(checkout)
    assert not checkout.passphrase_file.exists()
