"""Which database a command means, where the environment names a file that has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.database_url import resolve_database_url
from ops.errors import Exit, OpsError


@pytest.fixture
def url_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "url"
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    return path


def test_the_file_has_the_url(url_file: Path) -> None:
    url_file.write_text("postgresql://app@localhost/groundwork\n")
    assert resolve_database_url(None, role="app", stack="dev") == "postgresql://app@localhost/groundwork"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        # To libpq an empty string is a database: that of the operating system's user, on the local socket.
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_without_a_url_is_2_and_named(url_file: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        url_file.write_bytes(content)
    with pytest.raises(OpsError, match=said) as refused:
        resolve_database_url(None, role="app", stack="dev")
    assert refused.value.exit_code == Exit.USAGE
    assert str(url_file) in str(refused.value)
