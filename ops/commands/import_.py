"""`groundwork import`: loads data of others. GitHub Archive's hours so far."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from ops.commands.names import stack_option

_ANSWER_SECONDS = 8.0


@click.group("import")
def import_() -> None:
    """Load data of others."""


@import_.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
@stack_option("The stack, where no URL is given.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), help="Where rejected lines go [FILE.rejects.jsonl]."
)
@click.option("--dry-run", is_flag=True, help="Read and check, and store nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def gharchive(
    files: tuple[str, ...], url: str | None, stack: str, rejects: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Load hours of GitHub Archive, plain or gzip; `-` is standard input. What is stored already stays as it is."""
    from contextlib import ExitStack

    from psycopg.rows import class_row

    from cache.url_source import UrlSource
    from db._sync.pool import Pool
    from db.connection_limit import READ_CONNECTION_LIMIT
    from db.deadline import Deadline
    from db.errors import InvalidSetting
    from db.rows import ConnectionLimit
    from db.settings import DatabaseSettings
    from ops.database_url import require_database, resolve_database_url
    from ops.errors import Exit, OpsError
    from ops.gharchive.archive import ArchiveImport
    from ops.gharchive.lines import open_lines
    from ops.gharchive.loader import Loader
    from ops.gharchive.progress import Progress
    from ops.gharchive.rejects import RejectFile

    if rejects and len(files) > 1:
        raise OpsError("--rejects is for one file; without it each file has its own", Exit.USAGE)
    if rejects and rejects.exists() and files[0] != "-" and rejects.samefile(files[0]):
        raise OpsError(f"--rejects {rejects} is the file to be loaded; it would be written over", Exit.USAGE)
    done: list[dict[str, object]] = []
    with ExitStack() as stack_:
        loader = None
        if not dry_run:
            database = resolve_database_url(url, role="app", stack=stack)
            require_database(database)
            source = UrlSource("DATABASE_URL", InvalidSetting, database)
            # A batch waits for the indexes of thousands of rows, and for another import's.
            pool = Pool(DatabaseSettings(source, pool_size=1, deadline_seconds=60.0), name="import")
            pool.open()
            stack_.callback(pool.close)
            # Whether it answers at all is known sooner.
            pool.fetch_one(READ_CONNECTION_LIMIT, {}, class_row(ConnectionLimit), Deadline(_ANSWER_SECONDS))
            loader = Loader(pool)
        for name in files:
            started = time.monotonic()
            default = Path("stdin.rejects.jsonl") if name == "-" else Path(f"{name}.rejects.jsonl")
            with open_lines(name) as lines:
                reject_file = RejectFile(rejects or default)
                progress = Progress(name, lines.progress)
                try:
                    tally = ArchiveImport(lines, reject_file, loader, progress.show).run()
                finally:
                    reject_file.close()
                    progress.clear()
            seconds = time.monotonic() - started
            if tally.rejected:
                print(f"{name}: rejected lines and reasons are in {reject_file.path}", file=sys.stderr)
            done.append(
                {
                    "file": name, "lines": tally.lines, "loaded": tally.loaded, "known": tally.known,
                    "rejected": tally.rejected, "rejects": str(reject_file.path) if tally.rejected else None,
                    "seconds": round(seconds, 3),
                }
            )  # fmt: skip
            if as_json:
                continue
            verb = "would be loaded or are there" if dry_run else f"loaded, {tally.known} already there"
            print(
                f"{name}: {tally.lines} lines, {tally.loaded} {verb}, {tally.rejected} rejected,"
                f" {seconds:.1f} s ({tally.lines / max(seconds, 0.001):.0f} lines/s)"
            )
    if as_json:
        print(json.dumps({"dryRun": dry_run, "files": done}, indent=2))
