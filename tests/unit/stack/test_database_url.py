"""The database that a command uses if the environment names a file without a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import Exit, OpsError
from ops.stack.database_url import resolve_database_url


@pytest.fixture
def url_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "url"
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    return path


def test_the_url_is_read_from_the_file(url_file: Path) -> None:
    url_file.write_text("postgresql://app@localhost/groundwork\n")
    assert resolve_database_url(None, role="app", stack="dev") == "postgresql://app@localhost/groundwork"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        # For libpq an empty string means the database of the operating system's user, on the local socket.
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        # libpq would read only up to the NUL byte, without the check of the certificate.
        (b"postgresql://localhost/groundwork\0?sslmode=verify-full", "contains a NUL byte"),
    ],
)
def test_a_file_without_a_url_is_named_with_exit_code_2(
    url_file: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        url_file.write_bytes(content)
    with pytest.raises(OpsError, match=said) as refused:
        resolve_database_url(None, role="app", stack="dev")
    assert refused.value.exit_code == Exit.USAGE
    assert str(url_file) in str(refused.value)
