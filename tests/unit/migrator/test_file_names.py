"""Names of files that look like migrations, but that the migrator ignores, rejects, or takes for another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import read_source
from db.migrator.file_names import misnamed_files
from tests.promises import promise

MISNAMED = {
    "0010-x.up.sql": "no underscore follows the version",
    "0012.sql": "no underscore follows the version",
    "0011_x.SQL": "the suffix is not .sql in lower case",
    "0013_x.UP.sql": ".UP.sql is not in lower case",
    "0014_x.Down.sql": ".Down.sql is not in lower case",
    "V1__x.sql": "'V1' is not a version",
    "R__x.sql": "'R' is not a version",
    " 2_x.sql": "' 2' is not a version",
    "99999999999999999999_x.sql": "is not a version",
}


@promise("a file that looks like a migration and is not read is a finding")
@pytest.mark.parametrize("name", MISNAMED)
def test_a_misnamed_file_is_a_finding(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1")
    (tmp_path / "1_a.sql").write_text("SELECT 1")
    (finding,) = misnamed_files(tmp_path)
    assert (finding.path.name, finding.rule) == (name, "file-name")
    assert MISNAMED[name] in finding.message


@promise("a file that looks like a migration and is not read is a finding")
def test_a_broken_link_and_a_folder_of_diesel_are_findings(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").symlink_to("gone.sql")
    (tmp_path / "2020-01-01-000000_a").mkdir()
    (tmp_path / "2020-01-01-000000_a" / "up.sql").write_text("SELECT 1")
    assert [each.path.name for each in misnamed_files(tmp_path)] == ["1_a.up.sql", "2020-01-01-000000_a"]


@promise("a file that looks like a migration and is not read is a finding", control=True)
def test_other_files_are_not_findings(tmp_path: Path) -> None:
    (tmp_path / "0001_a.up.sql").write_text("SELECT 1")
    (tmp_path / "0001_a.down.sql").write_text("SELECT 1")
    (tmp_path / "2_link.sql").symlink_to("0001_a.up.sql")
    for name in ("schema.sql", "README.md", "0003_notes.txt", "0003_upgrade.UP.txt"):
        (tmp_path / name).write_text("SELECT 1")
    (tmp_path / "0004_data").mkdir()
    assert misnamed_files(tmp_path) == ()


def test_a_rejected_name_and_a_broken_link_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "V1__x.sql").write_text("SELECT 1")
    (tmp_path / "2_x.sql").write_text("SELECT 1")
    (tmp_path / "3_x.sql").symlink_to("gone.sql")
    assert [each.version for each in read_source(tmp_path, skips_bad_files=True)] == [2]
