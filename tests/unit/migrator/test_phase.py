"""Expand and contract phases: parsing of the header, and the allowed order."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import PhaseOrder, SourceError, new_migration, read_source
from db.migrator.phase import Phase
from db.migrator.runner import in_phase
from tests.promises import promise


def write(folder: Path, phases: str) -> None:
    """Write migrations from version 1 on: `e` for expand, `c` for contract, `.` for a missing version."""
    for version, phase in enumerate(phases, start=1):
        if phase != ".":
            header = "-- phase: contract\n" if phase == "c" else ""
            (folder / f"{version}_m.sql").write_text(f"{header}SELECT {version}")


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("SELECT 1", "expand"),
        ("-- phase: contract\nSELECT 1", "contract"),
        ("-- phase: expand\nSELECT 1", "expand"),
        ("-- no-transaction\n-- phase: contract\nVACUUM", "contract"),
        ("-- Drops what 0012 replaced.\n\n--phase:contract  \r\nSELECT 1", "contract"),
        ("SELECT 1;\n-- phase: contract\n", "expand"),
        ("/* Copyright */\n-- phase: contract\nSELECT 1", "contract"),
        ("/* a /* nested */\n\n*/ -- phase: contract\nSELECT 1", "contract"),
        ("\ufeff/* a */\n  -- phase: contract\nSELECT 1", "contract"),
        *((f"-- a{end}b\n-- phase: contract\nSELECT 1", "contract") for end in "\u2028\x85\v\f\x1c"),
        *((f"-- a{end}-- phase: contract\nSELECT 1", "expand") for end in "\u2028\x85\v\f\x1c"),
        ("-- a\r-- phase: contract\rSELECT 1", "contract"),
        ("/* -- phase: contract */ SELECT 1", "expand"),
        ("-- the phase: contract\nSELECT 1", "expand"),
        ("-- phase: 2 of the big rewrite\n-- phase: contract\nSELECT 1", "contract"),
        ("-- Phase: the second one\nSELECT 1", "expand"),
    ],
)
def test_a_header_in_the_first_comments_sets_the_phase(tmp_path: Path, text: str, phase: str) -> None:
    (tmp_path / "1_a.sql").write_text(text)
    assert read_source(tmp_path)[0].up.phase == phase


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- phase: later\nSELECT 1", r"1_a\.sql:1: 'later' is not a phase"),
        ("-- why\n-- phase:\nSELECT 1", r"1_a\.sql:2: '' is not a phase"),
        ("-- phase: expand\n-- phase: contract\nSELECT 1", r"1_a\.sql:2: .*its second"),
        ("-- phase: contract of users\nSELECT 1", r"1_a\.sql:1: 'contract of users' is not a phase"),
        ("SELECT 1;\n-- phase: contract\n", r"1_a\.sql:2: .*no effect here"),
        ("-- \u2028\nSELECT 1; -- Phase: contract", r"1_a\.sql:2: .*no effect here"),
        ("-- phase: expand\nSELECT 1;\n/* x */ -- phase: expand\nSELECT 2", r"1_a\.sql:3: .*no effect here"),
    ],
)
def test_an_invalid_phase_is_refused_if_a_phase_is_applied(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "1_a.sql").write_text(text)
    migrations = read_source(tmp_path)
    with pytest.raises(SourceError, match=message):
        in_phase(migrations, "expand")
    # The negative control: without a phase all migrations run, in any case in the order of their versions.
    assert in_phase(migrations, None) == migrations
    migrations[0].up.check()


@promise("a phase never skips a pending migration of the other")
@pytest.mark.parametrize(
    ("pending", "phase", "chosen"),
    [
        ("eec", None, [1, 2, 3]),
        ("ece", None, [1, 2, 3]),
        ("eec", "expand", [1, 2]),
        ("eec", "contract", PhaseOrder),
        ("..c", "contract", [3]),
        ("..ce", "contract", [3]),
        ("..ce", "expand", PhaseOrder),
        ("ece", "expand", PhaseOrder),
        ("cec", "contract", PhaseOrder),
        ("ee", "contract", []),
        ("cc", "expand", []),
        ("", "expand", []),
    ],
)
def test_a_phase_cannot_skip_a_migration_of_the_other_phase(
    tmp_path: Path, pending: str, phase: Phase | None, chosen: list[int] | type[Exception]
) -> None:
    write(tmp_path, pending)
    migrations = read_source(tmp_path)
    if isinstance(chosen, list):
        assert [m.version for m in in_phase(migrations, phase)] == chosen
    else:
        with pytest.raises(chosen):
            in_phase(migrations, phase)


@pytest.mark.parametrize(
    ("pending", "phase", "first"),
    [
        ("ece", "expand", "--phase expand --to 1"),
        ("..ce", "expand", "--phase contract --to 3"),
        ("..cce", "expand", "--phase contract --to 4"),
        ("ec", "contract", "--phase expand --to 1"),
    ],
)
def test_the_refusal_names_the_command_to_run_first(
    tmp_path: Path, pending: str, phase: Phase, first: str
) -> None:
    write(tmp_path, pending)
    with pytest.raises(PhaseOrder, match=rf"run `groundwork migrate up {first}` first"):
        in_phase(read_source(tmp_path), phase)


def test_a_new_migration_has_its_phase_after_the_no_transaction_header(tmp_path: Path) -> None:
    new_migration(tmp_path, "drop_index", no_transaction=True, phase="contract")
    (migration,) = read_source(tmp_path)
    assert (migration.up.no_transaction, migration.up.phase) == (True, "contract")
    assert migration.down is not None
    assert "phase" not in migration.down.sql
