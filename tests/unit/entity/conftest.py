"""A copy of the files that a new entity adds to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Each type, required and not.
EVERY_TYPE = (
    *("slug:text", "org_id:ref:organizations", "lead_id:ref:users?", "parent_id:ref:gizmos?", "seats:int"),
    *("points:bigint?", "is_open:bool", "ratio:float?", "budget:decimal?", "founded:date?", "seen_at:datetime:null"),
    *("badge:uuid", "status:enum(open,on hold)", "mood:enum(good,bad)?", "tags:text[]", "scores:int[]?"),
    *("settings:json", "extra:json?"),
)  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("db", "tests/entities"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "_sync")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
