"""`groundwork migrate repair` and `baseline`: change only the ledger, and refuse to guess."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.commands.migrate_options import (
    confirm,
    database_options,
    json_option,
    migrate_settings,
    migration_database_to_change,
    read_migrations,
)
from ops.commands.migrator_options import exit_codes, wait_option
from ops.errors import Exit, OpsError
from ops.output import print_json, print_line

if TYPE_CHECKING:
    from db.migrator import LedgerRow, Migration

_yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation")
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing")


@click.command("repair")
@database_options
@click.argument("versions", type=int, nargs=-1, metavar="[VERSION]...")
@click.option(
    "--old-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the text as it was applied; needs one VERSION",
)
@click.option(
    "--mark-applied",
    type=int,
    metavar="VERSION",
    help="Record a dirty or pending migration as done by hand",
)
@click.option(
    "--moved",
    type=int,
    metavar="VERSION",
    help="Record a pending file that was applied under another number",
)
@click.option(
    "--forget",
    type=int,
    metavar="VERSION",
    help="Delete the row of an undone migration or of a lost file",
)
@_yes
@_dry_run
@wait_option
@json_option
def repair(
    url: str | None,
    stack: str,
    folder: Path,
    versions: tuple[int, ...],
    old_file: Path | None,
    mark_applied: int | None,
    moved: int | None,
    forget: int | None,
    yes: bool,
    dry_run: bool,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Repair the ledger if that is provably harmless

    The checksum of an edited file is only updated if the applied text provably does the same: it differs only in line
    ends, a byte order mark, comments, or whitespace outside literals. The applied text comes from git's history or
    from --old-file. --moved needs a file with exactly the applied text.
    """
    from db import migrator
    from infra.text_file import read_bytes
    from ops.migrations.history import old_texts

    named = [what for what in (mark_applied, moved, forget) if what is not None]
    if len(named) > 1 or (named and (versions or old_file or dry_run)):
        raise OpsError(
            "--mark-applied, --moved and --forget cannot be combined with other arguments", Exit.USAGE
        )
    if old_file and len(versions) != 1:
        raise OpsError("--old-file needs exactly one VERSION", Exit.USAGE)
    with exit_codes():
        migrations = read_migrations(folder)
    conninfo = migration_database_to_change(url, stack)
    ignored = migrate_settings().ignore_missing
    what, why = None, "the schema is not checked"
    with exit_codes():
        if mark_applied is not None:
            what = f"mark version {mark_applied} as applied"
        elif forget is not None:
            what = f"delete {_row_of(conninfo, migrations, forget)} from the ledger"
        # A move that is not certain is refused below.
        elif moved is not None and not ignored and (row := _former_row(conninfo, migrations, moved)):
            what = f"give {_described(row)} the number {moved}"
            why = "the row may belong to another program that shares this ledger"
    if what is not None:
        confirm(
            f"Really {what}? No SQL is run, and {why}.",
            yes=yes,
            unasked=f"cannot {what} without confirmation, because {why}",
        )
    with exit_codes():
        if mark_applied is not None:
            done = [
                migrator.mark_applied(
                    conninfo, migrations, mark_applied, ignore_missing=ignored, wait_seconds=wait_seconds
                )
            ]
        elif moved is not None:
            done = [
                migrator.record_move(
                    conninfo, migrations, moved, ignore_missing=ignored, wait_seconds=wait_seconds
                )
            ]
        elif forget is not None:
            done = [
                migrator.forget(
                    conninfo, migrations, forget, ignore_missing=ignored, wait_seconds=wait_seconds
                )
            ]
        else:
            done = list(
                migrator.repair_checksums(
                    conninfo,
                    migrations,
                    lambda m: [read_bytes(old_file)] if old_file else old_texts(m.up.path),
                    versions=versions,
                    dry_run=dry_run,
                    wait_seconds=wait_seconds,
                )
            )
    if as_json:
        rows = [{"version": r.version, "name": r.name, "action": r.action, "detail": r.detail} for r in done]
        print_json({"would_repair" if dry_run else "repaired": rows})
        return
    for one in done:
        print_line(f"{'would repair' if dry_run else 'repaired'} {one.name}: {one.action}, {one.detail}")
    if not done:
        print_line("nothing to repair")


def _row_of(conninfo: str, migrations: Sequence[Migration], version: int) -> str:
    """Describe the row of the ledger that would be deleted."""
    from db.migrator import status

    state = status(conninfo, migrations)
    row = next((row for row in (*state.applied, *state.interrupted) if row.version == version), None)
    return f"the row of version {version}" if row is None else _described(row)


def _former_row(conninfo: str, migrations: Sequence[Migration], version: int) -> LedgerRow | None:
    """Return the only row without a file that has the text of pending migration `version`; None if there is not one."""
    from db.migrator import status
    from db.migrator.repair import former_rows
    from db.migrator.source import require_version

    migration = require_version(version, migrations)
    state = status(conninfo, migrations)
    found = former_rows(state.applied, migrations, migration) if migration in state.pending else []
    return found[0] if len(found) == 1 else None


def _described(row: LedgerRow) -> str:
    return f"the row of version {row.version} ({row.description}, {row.installed_on:%Y-%m-%d %H:%M:%S %Z})"


@click.command("baseline")
@database_options
@click.argument("version", type=int)
@click.option("--unchecked", is_flag=True, help="Do not compare the schema with the migrations")
@_dry_run
@wait_option
@json_option
def baseline(
    url: str | None,
    stack: str,
    folder: Path,
    version: int,
    unchecked: bool,
    dry_run: bool,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Adopt an existing database: record migrations as applied

    Records every migration up to VERSION without running it, for a database whose schema was created by other means.
    The migrations run on a temporary server (Docker), and the two catalogs are compared. Refused if the ledger has
    entries, or if something that the migrations create is missing or different, such as a column's type or a
    constraint.
    """
    from db import migrator
    from db.migrator.connection import require_login
    from db.migrator.source import require_version
    from ops.migrations.verification import expected_catalog

    with exit_codes():
        migrations = read_migrations(folder)
        require_version(version, migrations)
    conninfo = migration_database_to_change(url, stack)
    with exit_codes():
        # The reason why a database cannot be reached comes before the temporary server, which takes seconds.
        require_login(conninfo)
        schemas = migrate_settings().create_schemas
        chosen = [migration for migration in migrations if migration.version <= version]
        done = migrator.record_baseline(
            conninfo,
            migrations,
            version,
            expected=None if unchecked else expected_catalog(conninfo, chosen, schemas),
            create_schemas=schemas,
            dry_run=dry_run,
            wait_seconds=wait_seconds,
        )
    if as_json:
        rows = [{"version": m.version, "name": m.name} for m in done]
        print_json({"would_record" if dry_run else "recorded": rows})
        return
    for migration in done:
        print_line(f"{'would record' if dry_run else 'recorded'} {migration.name}")
