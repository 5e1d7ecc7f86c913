"""The virtual environment's bootstrap: what it refuses, when it does nothing, how it resumes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.toolchain import bootstrap

SCRIPT = Path(bootstrap.__file__)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text(f"{name}, as it was\n")
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> list[str]:
    """What would be run, in words; a virtual environment is made as a folder."""
    ran: list[str] = []

    def run(command: list[str], _lock: int) -> None:
        if "venv" in command:
            ran.append("venv")
            (checkout / ".venv").mkdir(exist_ok=True)
        elif "--require-hashes" in command:
            ran.append("lock")
        elif "--editable" in command:
            ran.append("project")
        else:
            ran.append(" ".join(command))

    monkeypatch.setattr(bootstrap, "run", run)
    return ran


def test_a_first_run_makes_everything_in_order(checkout: Path, commands: list[str]) -> None:
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "lock", "project"]


def test_a_second_run_does_and_says_nothing(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.main(str(checkout))
    commands.clear()
    capsys.readouterr()
    assert bootstrap.main(str(checkout)) == 0
    assert commands == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_change_is_installed_into_a_sound_environment(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bootstrap.main(str(checkout))
    commands.clear()
    monkeypatch.setattr(bootstrap, "is_sound", lambda *_: True)
    (checkout / name).write_text("another\n")
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["lock", "project"]


@pytest.mark.parametrize("cut_off", ["venv", "lock", "project"])
def test_an_interrupted_run_is_started_over(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, cut_off: str
) -> None:
    whole = bootstrap.run

    def run(command: list[str], lock: int) -> None:
        whole(command, lock)
        if commands[-1] == cut_off:
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.main(str(checkout)) == 130
    monkeypatch.setattr(bootstrap, "run", whole)
    # Whatever it looks like: pip stumbles over what a killed pip left.
    monkeypatch.setattr(bootstrap, "is_sound", lambda *_: True)
    commands.clear()
    assert bootstrap.main(str(checkout)) == 0
    assert commands == ["venv", "lock", "project"]


def test_a_moved_checkout_is_made_anew(tmp_path: Path, checkout: Path, commands: list[str]) -> None:
    bootstrap.main(str(checkout))
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    checkout.rename(moved)
    commands.clear()
    bootstrap.main(str(moved))
    assert commands[0] == "venv"


def test_an_environment_of_another_place_is_not_sound(tmp_path: Path) -> None:
    here = Path(sys.prefix)
    assert bootstrap.is_sound(str(here), str(here / "bin" / "python"))
    (tmp_path / ".venv").symlink_to(here)
    elsewhere = str(tmp_path / ".venv")
    assert not bootstrap.is_sound(elsewhere, f"{elsewhere}/bin/python")


def test_an_old_python_is_refused_in_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(str(checkout), (3, 10, 14)) == 1
    assert capsys.readouterr().err == (
        "groundwork: Python 3.11 or newer is needed, this is 3.10; "
        "install it, or name one: make PYTHON=/path/to/python3.11\n"
    )


def test_a_path_with_a_space_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(str(tmp_path / "my projects" / "x")) == 1
    err = capsys.readouterr().err
    assert err.startswith("groundwork: the path of this checkout has a space in it")
    assert err.count("\n") == 1


def test_without_ensurepip_and_root_the_package_is_named(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert bootstrap.main(str(checkout)) == 1
    assert "sudo apt-get install python3." in capsys.readouterr().err
    assert commands == []


def test_as_root_on_debian_ensurepip_is_installed(
    checkout: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/apt-get")
    assert bootstrap.main(str(checkout)) == 0
    assert [command.split()[-1] for command in commands[:2]] == ["update", _venv_package()]
    assert commands[2:] == ["venv", "lock", "project"]


def _venv_package() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"


def test_a_failed_installation_shows_all_that_pip_said(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(bootstrap.Refusal, match="printed above"):
        bootstrap.run(["sh", "-c", "echo one; echo two >&2; exit 1"], os.open(checkout, os.O_RDONLY))
    assert capfd.readouterr().err == "one\ntwo\n"


def test_a_second_run_waits_for_what_a_killed_one_left_running(
    checkout: Path, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with bootstrap.OnlyOne(str(checkout)) as lock:
        orphan = subprocess.Popen(["sleep", "1"], pass_fds=[lock])
    started = time.monotonic()
    assert bootstrap.main(str(checkout)) == 0
    assert time.monotonic() - started > 0.5
    assert "waiting for another run" in capsys.readouterr().err
    orphan.wait()


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    copied = tmp_path / "a b" / "ops" / "toolchain" / "bootstrap.py"
    copied.parent.mkdir(parents=True)
    copied.write_text(SCRIPT.read_text())
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(copied)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "has a space in it" in ended.stderr
