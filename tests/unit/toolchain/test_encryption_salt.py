"""Pulumi's salt in a stack's file, tested with git: it is never committed, and never shown as a change."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import click
import pytest

from infra.spec.checkout import PROJECT, STATE_VARIABLE, Checkout
from ops.commands import names
from ops.git import NotOwnerError
from ops.toolchain import encryption_salt, process
from tests.promises import promise

SALT = "v1:6TlFzGYOqcg=:v1:Fltip/HUY2vjg35r:+TWz+MXCYetZltdfEpd9y8j3BrVspw=="
SETTINGS = "# The development stack.\nconfig:\n  groundwork:target: docker\n"
ATTRIBUTES = Path(__file__).parents[3] / ".gitattributes"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(checkout: Checkout, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=checkout.root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A checkout whose key is that of its path, because git's filter computes it."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return Checkout.here(checkout.root)


@pytest.fixture
def settings(checkout: Checkout) -> Path:
    """A committed stack file in a fresh clone, before groundwork has run."""
    path = checkout.root / "Pulumi.dev.yaml"
    path.write_text(SETTINGS)
    shutil.copy(ATTRIBUTES, checkout.root)
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "settings")
    return path


def run_pulumi(checkout: Checkout, settings: Path, salt: str = SALT, stack: str = "dev") -> None:
    """Do what Pulumi does when it creates a stack: write a state, and add a salt to the file if there is none."""
    state = checkout.backend_dir / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    provider = f'"secrets_providers": {{"type": "passphrase", "state": {{"salt": "{salt}"}}}}'
    state.write_text(f'{{"version": 3, "checkpoint": {{"latest": {{{provider}}}}}}}')
    if "encryptionsalt" not in settings.read_text():
        settings.write_text(settings.read_text() + f"encryptionsalt: {salt}\n")


@promise("`git status` stays clean after `make up`")
def test_git_status_is_clean_after_pulumi_wrote_its_salt(checkout: Checkout, settings: Path) -> None:
    encryption_salt.ensure(checkout)
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    assert git(checkout, "status", "--porcelain") == ""
    assert SALT in settings.read_text()


@promise("`git status` stays clean after `make up`", control=True)
def test_a_clean_filter_alone_does_not_keep_git_status_clean(checkout: Checkout, settings: Path) -> None:
    """Negative control: git reports a file of another size as changed, although its diff is empty."""
    git(checkout, "config", "filter.groundwork-salt.clean", "sed -e '/^encryptionsalt: /d'")
    run_pulumi(checkout, settings)
    assert git(checkout, "status", "--porcelain") == " M Pulumi.dev.yaml\n"
    assert git(checkout, "diff") == ""


def test_a_stack_with_a_dot_in_its_name_has_its_own_salt(
    checkout: Checkout, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotted = settings.with_name("Pulumi.dev.eu.yaml")
    dotted.write_text(SETTINGS)
    run_pulumi(checkout, dotted, stack="dev.eu")
    encryption_salt.ensure(checkout)
    assert SALT in dotted.read_text()
    assert "encryptionsalt" not in settings.read_text()
    assert checkout.stacks() == ["dev", "dev.eu"]
    monkeypatch.setattr(names, "_ROOT", checkout.root)
    context = click.Context(click.Command("up"))
    assert names.complete_stacks(context, click.Option(["--stack"]), "dev.") == ["dev.eu"]


def test_checking_out_the_file_restores_its_salt(checkout: Checkout, settings: Path) -> None:
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    settings.unlink()
    git(checkout, "checkout", "--", settings.name)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"
    assert git(checkout, "status", "--porcelain") == ""


@promise("`git status` stays clean after `make up`")
def test_each_worktree_gets_its_own_salt(
    checkout: Checkout, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worktrees share the configuration of git's filter."""
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "second"))
    second = Checkout.here(tmp_path / "second")
    salts = {checkout: SALT, second: SALT.replace("6Tl", "7Um")}
    for each, salt in salts.items():
        run_pulumi(each, each.root / settings.name, salt)
        encryption_salt.ensure(each)
    monkeypatch.setattr(process, "run", lambda *_, **__: pytest.fail("a program was run"))
    for each, salt in salts.items():
        file = each.root / settings.name
        file.unlink()
        git(each, "checkout", "--", file.name)
        assert file.read_text() == SETTINGS + f"encryptionsalt: {salt}\n"
        assert git(each, "status", "--porcelain") == ""
        encryption_salt.ensure(each)


def test_the_salt_is_in_no_commit(checkout: Checkout, settings: Path) -> None:
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    settings.write_text(settings.read_text().replace("docker", "docker # here"))
    git(checkout, "commit", "--quiet", "--all", "--message", "an edit")
    committed = git(checkout, "show", f"HEAD:{settings.name}")
    assert "docker # here" in committed
    assert "encryptionsalt" not in committed
    assert git(checkout, "status", "--porcelain") == ""


def test_an_edit_by_the_user_stays_visible_and_unstaged(checkout: Checkout, settings: Path) -> None:
    settings.write_text(SETTINGS.replace("docker", "aws"))
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    assert git(checkout, "status", "--porcelain") == " M Pulumi.dev.yaml\n"
    assert "aws" in git(checkout, "diff")


def test_the_salt_of_a_copied_checkout_is_dropped(checkout: Checkout, settings: Path) -> None:
    settings.write_text(SETTINGS + f"encryptionsalt: {SALT}\n")
    encryption_salt.ensure(checkout)
    assert settings.read_text() == SETTINGS


def test_the_salt_of_the_state_has_priority_over_the_files(checkout: Checkout, settings: Path) -> None:
    other = SALT.replace("6Tl", "7Tl")
    settings.write_text(SETTINGS + f"encryptionsalt: {other}\n")
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"
    assert git(checkout, "status", "--porcelain") == ""


def test_an_up_to_date_checkout_runs_no_program(
    checkout: Checkout, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    monkeypatch.setattr(process, "run", lambda *_, **__: pytest.fail("a program was run"))
    encryption_salt.ensure(checkout)


def test_a_checkout_without_git_is_set_up_too(checkout: Checkout) -> None:
    settings = checkout.root / "Pulumi.dev.yaml"
    settings.write_text(SETTINGS)
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    assert settings.read_text() == SETTINGS + f"encryptionsalt: {SALT}\n"


@promise("a full disk is reported in one line, and the existing file is kept")
@pytest.mark.parametrize("what", ["settings", "record"])
def test_a_full_disk_leaves_the_old_file_complete(checkout: Checkout, what: str) -> None:
    settings = checkout.root / "Pulumi.dev.yaml"
    settings.write_text(SETTINGS)
    run_pulumi(checkout, settings)
    encryption_salt.ensure(checkout)
    record = checkout.state_dir / "salts" / settings.name
    # The next run has to write one of the two files.
    changed = settings if what == "settings" else record
    old = changed.read_text().replace(SALT, SALT.replace("6Tl", "7Tl"))
    changed.write_text(old)
    child = os.fork()
    if child == 0:
        code = 98
        try:
            # Behaves like a disk with this much space left: the rest of a write is refused.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            encryption_salt.ensure(checkout)
        except OSError as error:
            code = error.errno or 99
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == errno.EFBIG
    assert changed.read_text() == old
    assert [path.name for path in changed.parent.iterdir() if path.is_file()] == [changed.name]


def test_the_settings_keep_their_mode_and_their_link(checkout: Checkout, tmp_path: Path) -> None:
    kept = tmp_path / "kept.yaml"
    kept.write_text(f"# für alle\n{SETTINGS}", encoding="utf-8")
    kept.chmod(0o640)
    settings = checkout.root / "Pulumi.dev.yaml"
    settings.symlink_to(kept)
    other = tmp_path / "of-pulumi-alone"
    other.touch()
    run_pulumi(checkout, other)
    encryption_salt.ensure(checkout)
    assert settings.is_symlink()
    assert kept.stat().st_mode & 0o777 == 0o640
    assert kept.read_text(encoding="utf-8") == f"# für alle\n{SETTINGS}encryptionsalt: {SALT}\n"


@promise("git's own reason is reported if it refuses a checkout of another user")
def test_in_another_users_checkout_gits_error_is_reported(
    checkout: Checkout, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(
        NotOwnerError, match=r"dubious ownership.*as the folder's owner.*safe.directory"
    ) as refusal:
        encryption_salt.ensure(checkout)
    assert "\n" not in str(refusal.value)
