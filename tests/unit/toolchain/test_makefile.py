"""The Makefile: its help, and its error messages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cases import in_case
from tests.promises import promise

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_make_without_a_target_lists_every_target() -> None:
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    listed = re.findall(r"^  (\S+) ", make(ROOT).stdout, re.MULTILINE)
    assert set(listed) == set(declared.group(1).split())


def test_a_target_calls_one_command() -> None:
    cases: list[tuple[list[str], str]] = [
        (["up"], ".venv/bin/groundwork up"),
        (["up", "STACK=staging"], ".venv/bin/groundwork up --stack staging"),
        (["down"], ".venv/bin/groundwork down"),
        (["down", "VOLUMES=1"], ".venv/bin/groundwork down --volumes"),
        (["test"], ".venv/bin/python -m tests"),
        (["test", "SCALE=full"], "SCALE=full .venv/bin/python -m tests"),
        (
            ["test", "K=users and not slow"],
            '.venv/bin/python -m pytest tests -p tests.durations -k "users and not slow"',
        ),
    ]
    for arguments, command in cases:
        with in_case(arguments, command):
            lines = [
                " ".join(line.split()) for line in make(ROOT, "--dry-run", *arguments).stdout.splitlines()
            ]
            assert lines[-1] == command


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    folder = tmp_path / "my projects" / "groundwork"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    return folder


@promise("a checkout in a path with a space is refused in one line")
def test_a_path_with_a_space_is_refused_in_one_line(spaced: Path) -> None:
    ended = make(spaced, "up")
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert re.fullmatch(
        r".*the path of this checkout has a space in it .*; move the checkout\. +Stop\.\n", ended.stderr
    )


def test_help_works_in_a_path_with_a_space(spaced: Path) -> None:
    assert make(spaced).returncode == 0


def test_a_machine_without_python_gets_an_explanation(spaced: Path) -> None:
    folder = spaced.parents[1]
    shutil.copy(ROOT / "Makefile", folder)
    program = str(shutil.which("make"))
    ended = subprocess.run(
        [program, "up"], cwd=folder, env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "install Python 3.11 or newer" in ended.stderr


def test_a_python_that_cannot_run_is_not_selected(tmp_path: Path) -> None:
    """As a shim of pyenv for a version that is not active."""
    for name, code in (("python3.11", 127), ("python3", 0)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    ended = subprocess.run(
        [str(shutil.which("make")), "--dry-run", ".venv"],
        cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout == f"{tmp_path}/python3 ops/toolchain/bootstrap.py\n", ended.stderr


def test_no_other_modules_replace_groundworks(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text() + "\nwords:\n\t@env\n")
    found = {"PYTHONPATH": "/of/another", "PYTHONHOME": "/of/another", "PIP_INDEX_URL": "/of/another"}
    ended = subprocess.run(
        ["make", "words"], cwd=tmp_path, env=os.environ | found, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.splitlines()
    assert [name for name, value in found.items() if f"{name}={value}" in lines] == ["PIP_INDEX_URL"]
