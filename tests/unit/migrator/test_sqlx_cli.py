"""When the tests can build sqlx-cli, and what they say if they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.toolchain.process import CommandFailed
from tests.integration.migrator import sqlx_cli


@pytest.fixture
def cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program `cargo`, which a test writes. The cache is empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("GROUNDWORK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sqlx_cli.shutil, "which", lambda name: None if not (folder / name).exists() else name)
    sqlx_cli._failed_build.cache_clear()
    return folder / "cargo"


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_current_cargo_the_test_is_skipped_with_the_reason(
    cargo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(
        pytest.skip.Exception, match=r"cargo is not installed, .* install Rust 1\.94 or newer"
    ):
        sqlx_cli.sqlx_program("0.9.0")
    write(cargo, "echo cargo 1.63.0")
    with pytest.raises(pytest.skip.Exception, match=r"cargo 1\.63\.0 is too old"):
        sqlx_cli.sqlx_program("0.9.0")


def test_a_failed_build_fails_the_tests_in_ci_and_is_not_repeated(
    cargo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        cargo,
        f'[ "$1" = --version ] && echo cargo 1.95.0 && exit; echo x >> {tmp_path}/runs; echo broken; exit 1',
    )
    monkeypatch.setenv("CI", "true")
    for version in sqlx_cli.VERSIONS:
        with pytest.raises(pytest.fail.Exception, match=r"cannot build sqlx-cli: .*broken"):
            sqlx_cli.sqlx_program(version)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="cannot build sqlx-cli"):
        sqlx_cli.sqlx_program("0.8.6")
    assert (tmp_path / "runs").read_text() == "x\n"


def test_a_killed_build_continues_with_its_target_folder(cargo: Path, tmp_path: Path) -> None:
    write(
        cargo,
        '[ "$1" = --version ] && echo cargo 1.95.0 && exit\n'
        'mkdir -p "$CARGO_TARGET_DIR" && touch "$CARGO_TARGET_DIR/$4"\n'
        f"ls $CARGO_TARGET_DIR >> {tmp_path}/runs\n"
        f"[ $4 = 0.9.0 ] && [ ! -e {tmp_path}/again ] && touch {tmp_path}/again && exit 1\n"
        'for last; do :; done; mkdir -p "$last/bin" && touch "$last/bin/sqlx"',
    )
    progress = sqlx_cli.Progress(sqlx_cli.Console(stderr=True, force_terminal=False))
    with pytest.raises(CommandFailed):
        sqlx_cli.build_all(progress)
    # The first version is kept, and the second one is built with what both share.
    sqlx_cli.build_all(progress)
    assert (tmp_path / "runs").read_text().split() == ["0.8.6", "0.8.6", "0.9.0", "0.8.6", "0.9.0"]
    assert sqlx_cli.sqlx_program("0.9.0").exists()
    assert not sqlx_cli._target().exists()
