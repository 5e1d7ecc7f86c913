"""`groundwork migrate lint`: report unsafe statements and missing parts, with groundwork's and squawk's rules."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.commands.migrate_options import (
    exit_codes,
    folder_option,
    json_option,
    migrate_settings,
    read_migrations,
)
from ops.errors import Exit, OpsError
from ops.output import print_json, print_line


@click.command("lint")
@folder_option
@click.argument("versions", type=int, nargs=-1, metavar="[VERSION]...")
@click.option("--no-squawk", is_flag=True, help="Apply only groundwork's own rules")
@json_option
def lint(folder: Path, versions: tuple[int, ...], no_squawk: bool, as_json: bool) -> None:
    """Report unsafe statements and missing parts of migrations

    Checks all migrations, or those with the given VERSIONs. No database is needed. Exits with 4 if there are findings.
    A comment `-- lint-ignore: RULE` disables one of groundwork's rules for the next statement, `-- squawk-ignore RULE`
    one of squawk's.
    """
    from db import migrator
    from ops.migrations.squawk import squawk

    off = migrate_settings().rules_off()
    with exit_codes():
        migrations = read_migrations(folder)
        if unknown := sorted(set(versions) - {m.version for m in migrations}):
            raise OpsError(f"there is no migration of version {unknown[0]} in {folder}", Exit.USAGE)
        chosen = [m for m in migrations if not versions or m.version in versions]
        findings = [*migrator.lint_migrations(chosen), *([] if no_squawk else squawk(chosen))]
    findings = [finding for finding in findings if finding.rule not in off]
    findings.sort(key=lambda finding: (finding.path.name, finding.line, finding.rule))
    if as_json:
        rows = [{"file": f.path.name, "line": f.line, "rule": f.rule, "message": f.message} for f in findings]
        print_json({"migrations": len(chosen), "findings": rows})
    else:
        for found in findings:
            print_line(f"{found.path.name}:{found.line}: {found.rule}: {found.message}")
        print_line(f"{len(chosen)} migrations, {len(findings)} findings", err=bool(findings))
    if findings:
        sys.exit(Exit.MISMATCH)
