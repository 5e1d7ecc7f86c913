"""The check that every entity is complete: each missing part is named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.entity.generate import generated, write_all
from ops.entity.specification import specify
from scripts import check
from scripts.check_entities import problems
from tests.promises import promise
from tests.unit.entity.conftest import EVERY_TYPE, ROOT

# The file, and what is removed from it at the same time: a pattern, and what the check reports.
PARTS = [
    ("db/entities.py", [(r'    Entity\("gizmo", "gizmos"\),\n', "db/entities.py: no Entity(..., 'gizmos')")]),
    ("db/entities.py", [(r'    Entity\("gizmo", "gizmos"\),\n', "db/entities.py: no entity or feed 'gizmo'")]),
    ("db/models.py", [(r"(?<=class )Gizmo\b", "db/models.py: no Gizmo"),
                      (r"(?<=class )NewGizmo\b", "db/models.py: no NewGizmo"),
                      (r"GIZMO_SCHEMA", "db/models.py: no GIZMO_SCHEMA")]),
    ("db/_async/access.py", [(r"        self.gizmos = .*\n", "db/_async/access.py: no line self.gizmos =")]),
    ("db/_async/gizmos.py", [(r"(?s).*", "db/_async/gizmos.py: no KIND")]),
    ("db/_async/gizmos.py", [(r"AsyncGizmoRepository", "db/_async/gizmos.py: no class AsyncGizmoRepository")]),
    ("tests/entities/gizmos.py", [(r"CASE", "tests/entities/gizmos.py: no CASE")]),
    ("db/queries/gizmos.sql", [
        (rf"-- name: {name} ", f"db/queries/gizmos.sql: no query {name}\n")
        for name in (
            *("find_gizmo", "find_gizmos", "list_gizmos", "count_gizmos", "find_gizmo_versions", "add_gizmo"),
            *("update_gizmo", "delete_gizmo", "delete_gizmos", "find_gizmo_by_slug", "upsert_gizmo", "upsert_gizmos"),
        )
    ]),
    ("db/migrations/*_gizmos.up.sql", [(r"(?s)CREATE TABLE.*?\n\);", "db/migrations: no CREATE TABLE gizmos")]),
    ("db/migrations/*_gizmos.up.sql", [
        (pattern, f"db/migrations: no {said}")
        for pattern, said in (
            (r"(?s)CREATE TRIGGER gizmos_start_version.*?;", "trigger BEFORE INSERT ON gizmos that calls start_row"),
            (r"(?s)CREATE TRIGGER gizmos_row_version.*?;", "trigger BEFORE UPDATE ON gizmos that calls keep_row"),
            (r"(?s)CREATE TRIGGER gizmos_outbox_insert.*?;", "trigger AFTER INSERT ON gizmos that calls write_record"),
            (r"(?s)CREATE TRIGGER gizmos_outbox_update.*?;", "trigger AFTER UPDATE ON gizmos that calls write_record"),
            (r"(?s)CREATE TRIGGER gizmos_outbox_delete.*?;", "trigger AFTER DELETE ON gizmos that calls write_record"),
            (r"(?s)CREATE TRIGGER gizmos_outbox_truncate.*?;", "trigger BEFORE TRUNCATE ON gizmos that calls write"),
            (r"GRANT .* TO app;", "the grants of gizmos to app"),
            (r"GRANT SELECT ON gizmos TO readonly;", "grant of SELECT on gizmos to readonly"),
        )
    ]),
    # A typing error in the entity's name.
    ("db/migrations/*_gizmos.up.sql", [
        (r"record_outbox\('gizmo'\)",
         "db/migrations: no trigger AFTER DELETE ON gizmos that calls write_record_outbox('gizmo')"),
    ]),
]  # fmt: skip


@promise("`make check` names each missing part of an entity")
def test_a_missing_part_is_named_with_its_place(checkout: Path) -> None:
    write_all(generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, "slug")))
    for path, parts in PARTS:
        (file,) = checkout.glob(path)
        text = changed = file.read_text()
        for pattern, _ in parts:
            before = changed
            changed = re.sub(pattern, "" if pattern.endswith((r"\n", ";", "*")) else "Removed", before)
            assert changed != before, (path, pattern)
        file.write_text(changed)
        found = "".join(f"{problem}\n" for problem in problems(checkout))
        for pattern, expected in parts:
            assert expected in found, (path, pattern)
        file.write_text(text)
    for path in ("db/queries/gizmos.sql", "db/_async/gizmos.py", "tests/entities/gizmos.py"):
        moved = (checkout / path).rename(checkout / "moved")
        assert any(line.startswith(f"{path}: no ") for line in problems(checkout)), path
        moved.rename(checkout / path)


@promise("`make check` names each missing part of an entity", control=True)
@pytest.mark.parametrize("key", ["slug", None])
def test_a_complete_entity_has_no_problem(checkout: Path, key: str | None) -> None:
    write_all(generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, key)))
    assert list(problems(checkout)) == []


def test_this_checkout_is_complete_and_make_check_runs_the_check() -> None:
    assert list(problems(ROOT)) == []
    assert "scripts.check_entities" in check.STEPS["entities"]
