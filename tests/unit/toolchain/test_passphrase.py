"""The checkout's passphrase: made once, for its owner's eyes."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.spec.world import PROJECT, World
from ops.errors import OpsError
from ops.toolchain import passphrase


def test_it_is_readable_by_its_owner_only(world: World) -> None:
    passphrase.ensure(world)
    assert stat.S_IMODE(world.passphrase_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.state_dir.stat().st_mode) == 0o700
    assert len(world.passphrase_file.read_text().strip()) >= 32


def test_it_is_made_once(world: World) -> None:
    passphrase.ensure(world)
    first = world.passphrase_file.read_text()
    passphrase.ensure(world)
    assert world.passphrase_file.read_text() == first


def test_processes_that_race_agree_on_one(world: World) -> None:
    def make(_: int) -> str:
        passphrase.ensure(world)
        return world.passphrase_file.read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(16)))) == 1
    assert [path.name for path in world.state_dir.iterdir()] == ["passphrase"]


def test_a_lost_one_is_not_replaced_under_a_state(world: World) -> None:
    stacks = world.backend_dir / ".pulumi" / "stacks" / PROJECT
    stacks.mkdir(parents=True)
    (stacks / "dev.json").write_text("{}")
    with pytest.raises(OpsError, match=r"passphrase is missing, .* cannot be read without it; restore it"):
        passphrase.ensure(world)
    assert not world.passphrase_file.exists()
