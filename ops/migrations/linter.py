"""Lint migrations with groundwork's rules, and with squawk's if squawk is installed."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from db.migrator import Migration, lint_migrations
from db.migrator.lint import RULES
from ops.migrations import squawk


@dataclass(frozen=True)
class MigrationFinding:
    """A problem in `file`, a migration's up or down file, at `line` (from 1)."""

    file: str
    line: int
    rule: str
    message: str


@dataclass(frozen=True)
class Linted:
    """Findings by migration version. `has_squawk` is False if only groundwork's own rules were applied."""

    findings: Mapping[int, tuple[MigrationFinding, ...]]
    has_squawk: bool


def lint(migrations: Sequence[Migration], rules: Container[str] = frozenset(RULES)) -> Linted:
    """Lint with these of groundwork's rules, and with squawk's. Raise OpsError if squawk fails."""
    has_squawk = squawk.is_installed()
    found = [*lint_migrations(migrations, rules), *(squawk.squawk(migrations) if has_squawk else ())]
    found.sort(key=lambda finding: (finding.path.name, finding.line, finding.rule))
    by_version: dict[int, tuple[MigrationFinding, ...]] = {}
    for migration in migrations:
        files = {script.path for script in (migration.up, migration.down) if script is not None}
        by_version[migration.version] = tuple(
            MigrationFinding(each.path.name, each.line, each.rule, each.message)
            for each in found
            if each.path in files
        )
    return Linted(by_version, has_squawk)
