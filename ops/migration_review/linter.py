"""What lint says of migrations: our own rules, and squawk's where squawk is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.migrator import Migration, lint_migrations
from ops import squawk


@dataclass(frozen=True)
class Finding:
    """One thing to change in `file`, which is a migration's up file or its down file; `line` is from 1."""

    file: str
    line: int
    rule: str
    message: str


@dataclass(frozen=True)
class Linted:
    """Findings by a migration's version. `has_squawk` is false where our own rules are all that was applied."""

    findings: Mapping[int, tuple[Finding, ...]]
    has_squawk: bool


def lint(migrations: Sequence[Migration]) -> Linted:
    """The same as `groundwork migrate lint`. OpsError where squawk fails."""
    has_squawk = squawk.is_installed()
    found = [*lint_migrations(migrations), *(squawk.squawk(migrations) if has_squawk else ())]
    found.sort(key=lambda finding: (finding.path.name, finding.line, finding.rule))
    by_version: dict[int, tuple[Finding, ...]] = {}
    for migration in migrations:
        files = {script.path for script in (migration.up, migration.down) if script is not None}
        by_version[migration.version] = tuple(
            Finding(each.path.name, each.line, each.rule, each.message)
            for each in found
            if each.path in files
        )
    return Linted(by_version, has_squawk)
