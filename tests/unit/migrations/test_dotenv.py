"""A file .env is read as the crate dotenvy reads it for sqlx-cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import Exit, OpsError
from ops.migrations.dotenv import find_dotenv, read_dotenv

# The first lines are the examples of dotenvy's own test.
TEXT = r"""
KEY=1
KEY2="2"
KEY3='3'
KEY4='fo ur'
KEY5="fi ve"
KEY6=s\ ix
KEY7=
KEY8={blanks}
KEY9=   # foo
KEY10  ="whitespace before ="
KEY11=    "whitespace after ="
export="export as key"
export   SHELL_LOVER=1
# a comment
URL=postgres://a:b%20@c/d?e=f#g
COMMENTED=x # y
ESCAPED="a\"b\$c\\d\ne"
SINGLE='$KEY \n'
OWN=${KEY2}$KEY3/$FROM/$NONE.
LINES="one
two"
KEY=again
"""
READ = {
    "KEY": "1", "KEY2": "2", "KEY3": "3", "KEY4": "fo ur", "KEY5": "fi ve", "KEY6": "s ix",
    "KEY7": "", "KEY8": "", "KEY9": "", "KEY10": "whitespace before =", "KEY11": "whitespace after =",
    "export": "export as key", "SHELL_LOVER": "1", "URL": "postgres://a:b%20@c/d?e=f#g", "COMMENTED": "x",
    "ESCAPED": 'a"b$c\\d\ne', "SINGLE": r"$KEY \n", "OWN": "23/here/.", "LINES": "one\ntwo",
}  # fmt: skip


def test_each_kind_of_line_is_read_and_the_first_of_a_name_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM", "here")
    monkeypatch.setenv("KEY2", "2")
    path = tmp_path / ".env"
    path.write_text(TEXT.replace("{blanks}", "     "))
    assert read_dotenv(path) == READ


@pytest.mark.parametrize("line", ["secret", "1A=secret", "A=secret b", "A='secret", 'A="se\\cret"', "A=\\x"])
def test_an_invalid_line_is_refused_with_its_number_and_without_its_text(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"OK=1\n{line}\n")
    with pytest.raises(OpsError, match=r"\.env:2 is not NAME=value") as refused:
        read_dotenv(path)
    assert refused.value.exit_code == Exit.USAGE
    assert "secret" not in str(refused.value)


def test_line_ends_of_windows_are_not_part_of_a_value(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\r\nB='2\r\n3'\r\n")
    assert read_dotenv(path) == {"A": "1", "B": "2\n3"}


def test_a_nul_byte_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("OK=1\nA='secret\0?sslmode=verify-full'\n")
    with pytest.raises(OpsError, match=r"\.env:2 contains a NUL byte") as refused:
        read_dotenv(path)
    assert refused.value.exit_code == Exit.USAGE
    assert "secret" not in str(refused.value)


def test_a_link_to_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / ".env").write_text("")
    (tmp_path / "a" / ".env").symlink_to("gone")
    with pytest.raises(OpsError, match=r"\.env is a link to a file that does not exist \(gone\)") as refused:
        find_dotenv(tmp_path / "a")
    assert refused.value.exit_code == Exit.USAGE


def test_the_nearest_file_upwards_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".env").write_text("")
    # A folder of this name is not a file of variables.
    (inner / ".env").mkdir()
    assert find_dotenv(inner) == tmp_path / ".env"
