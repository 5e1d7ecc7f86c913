"""A failing git is reported the same way by every command that uses it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ops.git import GitError, NotOwnerError, git
from ops.migrations import history
from tests.promises import promise

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def test_a_history_that_git_refuses_to_show_is_an_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    with pytest.raises(NotOwnerError, match=r"dubious ownership.*git config --global --add safe\.directory"):
        list(history.old_texts(repository / "0001_first.up.sql"))


def test_the_variables_of_a_hook_do_not_select_another_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "init", "--quiet", str(other)], check=True)
    config = (other / ".git" / "config").read_text()
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_COMMON_DIR": str(other / ".git"),
        "GIT_CONFIG": str(other / ".git" / "config"),
        "GIT_INDEX_FILE": str(other / "index"),
        "GIT_OBJECT_DIRECTORY": str(other / ".git" / "objects"),
    }.items():
        monkeypatch.setenv(name, value)
    (repository / "file").write_text("text")
    git(repository, "config", "--local", "filter.x.clean", "cat")
    git(repository, "add", "file")
    assert "filter" in (repository / ".git" / "config").read_text()
    assert (repository / ".git" / "index").exists()
    assert (other / ".git" / "config").read_text() == config
    assert not (other / "index").exists()
    assert git(repository, "rev-parse", "--show-toplevel").decode().strip() == str(repository)


def test_settings_of_the_environment_apply_to_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline trusts a checkout of another user in this way (safe.directory)."""
    variables = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    for name, value in (variables | {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}).items():
        monkeypatch.setenv(name, value)
    git(repository, "status")


def test_a_file_unknown_to_git_has_no_history(repository: Path) -> None:
    assert list(history.old_texts(repository / "0001_first.up.sql")) == []


@promise("git's own reason is reported if it refuses a checkout of another user")
@pytest.mark.parametrize("language", ["C", "de_DE.UTF-8"])
def test_gits_error_is_reported_in_one_line(
    repository: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("LANG", language)
    with pytest.raises(GitError, match=r"`git ls-tree` in .* failed: Not a valid object name nowhere$"):
        git(repository, "ls-tree", "nowhere")
