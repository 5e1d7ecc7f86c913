"""Pulumi's salt in a stack's file, under a real git: never in a commit, never in the way."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from infra.spec.world import PROJECT, World
from ops.toolchain import encryption_salt, process

SALT = "v1:6TlFzGYOqcg=:v1:Fltip/HUY2vjg35r:+TWz+MXCYetZltdfEpd9y8j3BrVspw=="
SETTINGS = "# The development stack.\nconfig:\n  groundwork:target: docker\n"
ATTRIBUTES = Path(__file__).parents[3] / ".gitattributes"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(world: World, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=world.root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def settings(world: World) -> Path:
    """A committed stack file in a fresh clone, before anything of groundwork ran."""
    path = world.root / "Pulumi.dev.yaml"
    path.write_text(SETTINGS)
    shutil.copy(ATTRIBUTES, world.root)
    git(world, "init", "--quiet")
    git(world, "add", "--all")
    git(world, "commit", "--quiet", "--message", "settings")
    return path


def run_pulumi(world: World, settings: Path, salt: str = SALT) -> None:
    """What Pulumi does when it makes a stack: state, and a salt in the file where there is none."""
    state = world.backend_dir / ".pulumi" / "stacks" / PROJECT / "dev.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    provider = f'"secrets_providers": {{"type": "passphrase", "state": {{"salt": "{salt}"}}}}'
    state.write_text(f'{{"version": 3, "checkpoint": {{"latest": {{{provider}}}}}}}')
    if "encryptionsalt" not in settings.read_text():
        settings.write_text(settings.read_text() + f"encryptionsalt: {salt}\n")


def test_status_is_clean_after_pulumi_wrote_its_salt(world: World, settings: Path) -> None:
    encryption_salt.ensure(world)
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    assert git(world, "status", "--porcelain") == ""
    assert SALT in settings.read_text()


def test_a_clean_filter_alone_does_not_keep_status_clean(world: World, settings: Path) -> None:
    """The negative control: git takes a file of another size for changed, although its diff is empty."""
    git(world, "config", "filter.groundwork-salt.clean", "sed -e '/^encryptionsalt: /d'")
    run_pulumi(world, settings)
    assert git(world, "status", "--porcelain") == " M Pulumi.dev.yaml\n"
    assert git(world, "diff") == ""


def test_a_checkout_of_the_file_brings_its_salt_back(world: World, settings: Path) -> None:
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    settings.unlink()
    git(world, "checkout", "--", settings.name)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"
    assert git(world, "status", "--porcelain") == ""


def test_the_salt_is_in_no_commit(world: World, settings: Path) -> None:
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    settings.write_text(settings.read_text().replace("docker", "docker # here"))
    git(world, "commit", "--quiet", "--all", "--message", "an edit")
    committed = git(world, "show", f"HEAD:{settings.name}")
    assert "docker # here" in committed
    assert "encryptionsalt" not in committed
    assert git(world, "status", "--porcelain") == ""


def test_an_edit_of_the_users_stays_visible_and_unstaged(world: World, settings: Path) -> None:
    settings.write_text(SETTINGS.replace("docker", "aws"))
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    assert git(world, "status", "--porcelain") == " M Pulumi.dev.yaml\n"
    assert "aws" in git(world, "diff")


def test_a_copied_checkouts_salt_is_dropped(world: World, settings: Path) -> None:
    settings.write_text(SETTINGS + f"encryptionsalt: {SALT}\n")
    encryption_salt.ensure(world)
    assert settings.read_text() == SETTINGS


def test_the_states_salt_wins_over_the_files(world: World, settings: Path) -> None:
    other = SALT.replace("6Tl", "7Tl")
    settings.write_text(SETTINGS + f"encryptionsalt: {other}\n")
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"
    assert git(world, "status", "--porcelain") == ""


def test_a_settled_checkout_costs_no_program(
    world: World, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    monkeypatch.setattr(process, "run", lambda *_, **__: pytest.fail("a program was run"))
    encryption_salt.ensure(world)


def test_a_checkout_that_is_no_repository_is_settled_too(world: World) -> None:
    settings = world.root / "Pulumi.dev.yaml"
    settings.write_text(SETTINGS)
    run_pulumi(world, settings)
    encryption_salt.ensure(world)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"
