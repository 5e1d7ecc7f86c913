"""`groundwork migrate lint`: report unsafe statements and missing parts, with groundwork's and squawk's rules."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.commands.migrate_options import json_option, migrate_settings, read_migrations
from ops.commands.migrator_options import exit_codes, folder_option
from ops.errors import Exit, OpsError
from ops.output import print_json, print_line


@click.command("lint")
@folder_option
@click.argument("versions", type=int, nargs=-1, metavar="[VERSION]...")
@click.option(
    "--rule", "only", multiple=True, metavar="RULE", help="Apply only this rule, and not squawk; repeatable"
)
@click.option(
    "--disable", "disabled", multiple=True, metavar="RULE", help="Do not apply this rule; repeatable"
)
@click.option("--no-squawk", is_flag=True, help="Apply only groundwork's own rules")
@json_option
def lint(
    folder: Path,
    versions: tuple[int, ...],
    only: tuple[str, ...],
    disabled: tuple[str, ...],
    no_squawk: bool,
    as_json: bool,
) -> None:
    """Report unsafe statements and missing parts of migrations

    Checks all migrations, or those with the given VERSIONs. No database is needed. Exits with 4 if there are findings.
    A comment `-- lint-ignore: RULE` disables one of groundwork's rules for the next statement, `-- squawk-ignore RULE`
    one of squawk's.
    """
    from db import migrator
    from db.migrator.file_names import misnamed_files
    from ops.migrations.squawk import squawk

    rules = _chosen_rules(only, disabled)
    with exit_codes():
        migrations = read_migrations(folder, skips_bad_files="file-name" in rules)
        if unknown := sorted(set(versions) - {m.version for m in migrations}):
            raise OpsError(f"there is no migration of version {unknown[0]} in {folder}", Exit.USAGE)
        chosen = [m for m in migrations if not versions or m.version in versions]
        findings = list(migrator.lint_migrations(chosen, rules))
        if "file-name" in rules and not versions:
            findings += misnamed_files(folder)
        if not no_squawk and not only:
            findings += squawk(chosen)
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


def _chosen_rules(only: tuple[str, ...], disabled: tuple[str, ...]) -> frozenset[str]:
    """Return the rules of --rule, or those that are on in the settings. Raise OpsError (2) for an unknown rule."""
    from db.migrator.lint import RULES

    for name in (*only, *disabled):
        if name not in RULES:
            raise OpsError(
                f"there is no lint rule {name!r}; the rules are {', '.join(sorted(RULES))}. Configure squawk's rules in"
                " .squawk.toml",
                Exit.USAGE,
            )
    return frozenset(only or RULES.keys() - migrate_settings().rules_off()) - frozenset(disabled)
