"""The settings of `migrate`: which file counts, and what is refused with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator.url import DEFAULT_PATH, LEDGER, LOGIN_PATH, SEARCH_PATH
from infra.spec.errors import UnreadableFile
from ops.errors import Exit, OpsError
from ops.migrations.settings import MigrateSettings, find_settings
from tests.cases import in_case
from tests.promises import promise

ALL = """
[migrate]
folder = "sql"
url-variable = "SHOP_URL"
ledger = 'shop."Ledger"'
schema = ["shop", '"My Schema"']
create-schemas = ["shop"]
ignored-chars = ["\\r", "\\uFEFF"]
ignore-missing = true
versioning = "timestamp"
reversible = false
wait = 5
lock-timeout = 0.5
attempts = 3
[migrate.lint]
missing-grant = false
"""
SQLX = """
[common]
database-url-var = "FOO_URL"
[drivers.sqlite]
unsafe-load-extensions = ["uuid"]
[macros.preferred-crates]
date-time = "chrono"
[migrate]
create-schemas = ["foo"]
table-name = "foo._sqlx_migrations"
migrations-dir = "foo/migrations"
ignored-chars = ["\\r"]
[migrate.defaults]
migration-type = "simple"
migration-versioning = "sequential"
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_files_everything_has_its_default(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "[project]\nname = 'x'")
    assert find_settings(tmp_path) == MigrateSettings()


@pytest.mark.parametrize("name", ["groundwork.toml", "pyproject.toml"])
def test_every_key_is_read(tmp_path: Path, name: str) -> None:
    text = ALL if name == "groundwork.toml" else ALL.replace("[migrate", "[tool.groundwork.migrate")
    write(tmp_path / name, text)
    assert find_settings(tmp_path) == MigrateSettings(
        root=tmp_path,
        folder=tmp_path / "sql",
        url_variable="SHOP_URL",
        ledger='shop."Ledger"',
        schema=("shop", '"My Schema"'),
        create_schemas=("shop",),
        ignored_chars="\r\ufeff",
        ignore_missing=True,
        versioning="timestamp",
        is_reversible=False,
        wait=5,
        lock_timeout=0.5,
        attempts=3,
        lint={"missing-grant": False},
    )


@promise("`migrate` reads sqlx.toml as sqlx-cli 0.9 does, and refuses other keys by name")
def test_every_key_of_sqlx_is_read(tmp_path: Path) -> None:
    write(tmp_path / "sqlx.toml", SQLX)
    assert find_settings(tmp_path) == MigrateSettings(
        root=tmp_path,
        folder=tmp_path / "foo/migrations",
        url_variable="FOO_URL",
        ledger="foo._sqlx_migrations",
        create_schemas=("foo",),
        ignored_chars="\r",
        versioning="sequential",
        is_reversible=False,
    )


def test_the_nearest_folder_with_settings_counts_and_groundworks_keys_first(tmp_path: Path) -> None:
    write(tmp_path / "groundwork.toml", "[migrate]\nattempts = 1")
    write(tmp_path / "a" / "sqlx.toml", SQLX)
    write(tmp_path / "a" / "groundwork.toml", "[migrate]\nledger = 'mine'")
    write(tmp_path / "a" / "b" / "pyproject.toml", "[tool.other]")
    found = find_settings(tmp_path / "a" / "b")
    assert (found.root, found.ledger, found.attempts) == (tmp_path / "a", "mine", None)
    assert found.url_variable == "FOO_URL"


@promise("an invalid file of settings is refused with the file, the key and what is allowed")
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("groundwork.toml", "[migrat]", "unknown key migrat; the keys are migrate"),
        ("groundwork.toml", "[migrate]\nfolders = 'x'", "unknown key migrate.folders; the keys are attempts, "),
        ("groundwork.toml", "migrate = 1", "migrate is 1; it must be a table"),
        ("groundwork.toml", "[migrate]\nfolder = ''", "migrate.folder is ''; it must be a string that is not empty"),
        ("groundwork.toml", "[migrate]\nledger = 'a.b.c'", "migrate.ledger is 'a.b.c'; it must be a table's SQL name"),
        ("groundwork.toml", "[migrate]\nledger = 'a; DROP'", "must be a table's SQL name"),
        ("groundwork.toml", "[migrate]\nschema = []", "must be the name of a schema, or a list of names"),
        ("groundwork.toml", "[migrate]\nschema = [1]", "must be a list of SQL names"),
        ("groundwork.toml", """[migrate]\nschema = '"$user"'""", "must be the schema's own name"),
        ("groundwork.toml", """[migrate]\nschema = ['"$user"', 'public']""", "must be the schema's own name"),
        ("groundwork.toml", """[migrate]\nschema = ['app', '"$user"']""", "must be the schema's own name"),
        ("groundwork.toml", """[migrate]\ncreate-schemas = ['"$user"']""", "must be the schema's own name"),
        ("groundwork.toml", """[migrate]\nledger = '"$user".applied'""", "must be the schema's own name"),
        ("sqlx.toml", """[migrate]\ntable-name = '"$user".applied'""", "must be the schema's own name"),
        ("sqlx.toml", """[migrate]\ncreate-schemas = ['"$user"']""", "must be the schema's own name"),
        ("groundwork.toml", "[migrate]\nurl-variable = 'a b'", "must be the name of an environment variable"),
        ("groundwork.toml", "[migrate]\nignored-chars = ['ab']", "must be a list of single characters"),
        ("groundwork.toml", "[migrate]\nignore-missing = 1", "must be true or false"),
        ("groundwork.toml", "[migrate]\nversioning = 'x'", "must be one of inferred, timestamp, sequential"),
        ("groundwork.toml", "[migrate]\nwait = -1", "must be a number of seconds from 0 to 2147483"),
        ("groundwork.toml", "[migrate]\nwait = inf", "must be a number of seconds from 0 to 2147483"),
        ("groundwork.toml", "[migrate]\nwait = nan", "must be a number of seconds from 0 to 2147483"),
        ("groundwork.toml", "[migrate]\nwait = true", "must be a number of seconds from 0 to 2147483"),
        ("groundwork.toml", "[migrate]\nlock-timeout = 0", "must be a number of seconds from 0.001 to 2147483"),
        ("groundwork.toml", "[migrate]\nlock-timeout = 1e9", "must be a number of seconds from 0.001 to 2147483"),
        ("groundwork.toml", "[migrate]\nattempts = true", "must be a whole number, 1 or more"),
        ("groundwork.toml", "[migrate]\nattempts = 1.5", "must be a whole number, 1 or more"),
        ("groundwork.toml", "[migrate.lint]\nx = 'off'", "must be a table of rules, each with true or false"),
        ("groundwork.toml", "[migrate.lint]\nmissing_grant = false", "with true or false: blocking-index, "),
        ("pyproject.toml", "[tool.groundwork.migrate.lint]\nmissing-grants = true", "must be a table of these rules"),
        ("groundwork.toml", "[migrate", "is not valid TOML"),
        ("pyproject.toml", "[tool.groundwork.migrate]\nx = 1", "unknown key tool.groundwork.migrate.x"),
        ("pyproject.toml", "[tool.groundwork]\nx = 1", "unknown key tool.groundwork.x"),
        ("sqlx.toml", "[migrate]\nunrecognized-sql-files = 'warn'", "unknown key migrate.unrecognized-sql-files"),
        ("sqlx.toml", "[migrate.defaults]\nx = 1", "unknown key migrate.defaults.x"),
        ("sqlx.toml", "[migrate]\ndefaults = 1", "migrate.defaults is 1; it must be a table"),
        ("sqlx.toml", "[migrate.defaults]\nmigration-type = 'x'", "one of inferred, simple, reversible"),
        ("sqlx.toml", "[other]", "unknown key other"),
        ("sqlx.toml", "[migrate]\n\0", ":2 contains a NUL byte"),
        ("pyproject.toml", "[tool.groundwork]\n#\0", ":2 contains a NUL byte"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_2(tmp_path: Path, name: str, text: str, said: str) -> None:
    write(tmp_path / name, text)
    with pytest.raises(OpsError) as refused:
        find_settings(tmp_path)
    assert refused.value.exit_code == Exit.USAGE
    assert str(refused.value).startswith(str(tmp_path / name))
    assert said in str(refused.value)


def test_names_that_only_look_like_the_placeholder_of_a_role_are_accepted(tmp_path: Path) -> None:
    write(tmp_path / "groundwork.toml", """[migrate]\nschema = ['"$User"', 'user$']\nledger = '"$user"'""")
    assert find_settings(tmp_path).session[LEDGER] == '"$User"."$user"'


def test_a_rule_that_is_off_is_known(tmp_path: Path) -> None:
    write(tmp_path / "groundwork.toml", "[migrate.lint]\nmissing-grant = false\nblocking-index = true")
    assert find_settings(tmp_path).rules_off() == {"missing-grant"}


@pytest.mark.parametrize("name", ["groundwork.toml", "pyproject.toml", "sqlx.toml"])
def test_a_link_to_no_file_is_refused_with_2(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("gone.toml")
    with pytest.raises(
        OpsError, match=rf"{name} is a link to a file that does not exist \(gone.toml\)"
    ) as refused:
        find_settings(tmp_path)
    assert refused.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("name", ["groundwork.toml", "sqlx.toml"])
def test_a_byte_order_mark_is_accepted_and_links_are_followed(tmp_path: Path, name: str) -> None:
    write(tmp_path / "real.toml", "\ufeff[migrate]\nignored-chars = ['x']")
    (tmp_path / name).symlink_to("real.toml")
    assert find_settings(tmp_path).ignored_chars == "x"


@pytest.mark.parametrize("name", ["groundwork.toml", "sqlx.toml"])
def test_a_file_without_an_end_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UnreadableFile, match=rf"cannot read .*{name}: it is larger than 64 MiB"):
        find_settings(tmp_path)


def test_two_files_of_groundwork_in_a_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "groundwork.toml", "")
    write(tmp_path / "pyproject.toml", "[tool.groundwork]")
    with pytest.raises(OpsError, match="both have settings; keep one of them"):
        find_settings(tmp_path)


# Programs that do not read the settings may use another ledger, unless the setting names one with its schema.
OTHERS = {DEFAULT_PATH: LOGIN_PATH}


def test_the_ledger_is_in_the_first_schema_unless_its_name_has_one() -> None:
    cases: list[tuple[MigrateSettings, dict[str, str]]] = [
        (MigrateSettings(), {}),
        (MigrateSettings(ledger="a.b"), {LEDGER: "a.b"}),
        (MigrateSettings(schema=("s", "t")), {SEARCH_PATH: "s, t", LEDGER: "s._sqlx_migrations", **OTHERS}),
        (MigrateSettings(schema=("s",), ledger='"x.y"'), {SEARCH_PATH: "s", LEDGER: 's."x.y"', **OTHERS}),
        (MigrateSettings(schema=("s",), ledger='"x.y".z'), {SEARCH_PATH: "s", LEDGER: '"x.y".z'}),
    ]
    for settings, session in cases:
        with in_case(settings, session):
            assert settings.session == session
