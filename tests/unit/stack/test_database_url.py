"""The database that a command uses, and how it is described."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import Exit, OpsError
from ops.stack import database_url
from ops.stack.database_url import SelectedDatabase, select_database
from tests.promises import promise


@pytest.fixture
def url_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "url"
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    return path


def test_the_url_is_read_from_the_file(url_file: Path) -> None:
    url_file.write_text("postgresql://app@localhost/groundwork\n")
    assert select_database(None, role="app", stack="dev").url == "postgresql://app@localhost/groundwork"


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
        select_database(None, role="app", stack="dev")
    assert refused.value.exit_code == Exit.USAGE
    assert str(url_file) in str(refused.value)


@promise("a command that changes a database prints which one it is, and where the URL comes from")
@pytest.mark.parametrize(
    ("url", "described"),
    [
        (
            "postgresql://migrator:hunter2@db.example:6432/shop?sslmode=require",
            "db.example:6432/shop as migrator",
        ),
        ("host=db.example user=migrator password=hunter2", "db.example:5432/migrator as migrator"),
        (
            "postgresql://app:hunter2@a.example:6431,b.example:6432/shop?target_session_attrs=primary",
            "a.example:6431,b.example:6432/shop as app",
        ),
        (
            "host=a.example,b.example port=6432 user=app dbname=shop",
            "a.example:6432,b.example:6432/shop as app",
        ),
        ("postgresql://me:hunter2@/shop", "the local socket:5432/shop as me"),
        ("postgresql://me:hunter2@db.example?hostaddr=192.0.2.7", "192.0.2.7:5432/me as me"),
        ("service=prod password=hunter2", "service 'prod'"),
        ("postgres//me:hunter2@", "an invalid URL"),
    ],
)
def test_a_database_is_described_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, described: str
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    assert str(SelectedDatabase(url, "--url")) == f"{described}, from --url"
    assert "hunter2" not in repr(SelectedDatabase(url, "--url"))


def test_libpqs_variables_are_part_of_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "prod.example")
    monkeypatch.setenv("PGPORT", "6432")
    assert (
        str(SelectedDatabase("postgresql://me@/shop", "--url")) == "prod.example:6432/shop as me, from --url"
    )


def test_the_origin_is_the_option_the_variable_or_the_file(
    url_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url_file.write_text("postgresql://localhost/x")
    assert select_database(None, role="app", stack="dev").origin == "DATABASE_URL_FILE"
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/x")
    assert select_database(None, role="app", stack="dev").origin == "DATABASE_URL"
    assert select_database("postgresql://localhost/x", role="app", stack="dev").origin == "--url"


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "SHOP_URL", "SHOP_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".env"


def selected(dotenv: Path, name: str = "DATABASE_URL", given: str | None = None) -> SelectedDatabase:
    return select_database(given, role="migrator", stack="dev", variable_name=name, dotenv_from=dotenv.parent)


def test_a_file_of_variables_counts_after_the_option_and_the_environment(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url_file = tmp_path / "url"
    url_file.write_text("postgresql://localhost/file\n")
    dotenv.write_text(
        f"SHOP_URL=postgres://localhost/dotenv?ssl-mode=DISABLE\nDATABASE_URL_FILE={url_file}\n"
    )
    assert selected(dotenv, "SHOP_URL") == SelectedDatabase(
        "postgres://localhost/dotenv?sslmode=disable", f"SHOP_URL of {dotenv}"
    )
    assert selected(dotenv) == SelectedDatabase(
        "postgresql://localhost/file", f"DATABASE_URL_FILE of {dotenv}"
    )
    # Either of the two variables in the environment hides both in the file.
    monkeypatch.setenv("SHOP_URL_FILE", str(url_file))
    assert selected(dotenv, "SHOP_URL").origin == "SHOP_URL_FILE"
    assert selected(dotenv, "SHOP_URL", "postgresql://localhost/option").origin == "--url"


@pytest.mark.parametrize("line", ["DATABASE_URL=", "DATABASE_URL=' '", "DATABASE_URL_FILE= # none"])
def test_an_empty_variable_of_the_file_is_refused_with_the_file(dotenv: Path, line: str) -> None:
    dotenv.write_text(f"{line}\n")
    with pytest.raises(OpsError) as refused:
        selected(dotenv)
    assert refused.value.exit_code == Exit.USAGE
    name = line.partition("=")[0]
    assert str(refused.value) == f"{name} of {dotenv} is set but empty; remove the line, or give it a value"


def test_without_any_url_and_without_stacks_the_variable_is_named(
    dotenv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_url, "is_checkout", lambda: False)
    with pytest.raises(OpsError, match="pass --url, or set SHOP_URL in the environment or in a file"):
        selected(dotenv, "SHOP_URL")
