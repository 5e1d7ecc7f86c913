"""`groundwork import`: load external data sets. The only one so far is GitHub Archive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ops.commands.names import stack_option
from ops.number_range import IntegerRange
from ops.output import print_json, print_line
from ops.termination import description

if TYPE_CHECKING:
    from ops.gharchive.batch import Runner

_ANSWER_SECONDS = 8.0
# Each process has a connection.
_MOST_JOBS = 16


@click.group("import")
def import_() -> None:
    """Load external data sets"""


@import_.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--url", help="Database URL [default: DATABASE_URL, then the stack's]")
@stack_option("Stack to use if no URL is given")
@click.option(
    "--rejects", type=click.Path(path_type=Path), help="File for rejected lines [default: FILE.rejects.jsonl]"
)
@click.option(
    "--jobs",
    type=IntegerRange(1, _MOST_JOBS),
    default=1,
    show_default=True,
    help="Number of processes that load",
)
@click.option("--dry-run", is_flag=True, help="Read and check the files, and store nothing")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def gharchive(
    files: tuple[str, ...],
    url: str | None,
    stack: str,
    rejects: Path | None,
    jobs: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Load hours of GitHub Archive, plain or gzip

    FILE `-` is standard input. Events that are stored already are left unchanged.
    """
    from contextlib import ExitStack

    from psycopg.rows import class_row

    from db.connection_limit import READ_CONNECTION_LIMIT
    from db.deadline import Deadline
    from db.rows import ConnectionLimit
    from ops.errors import Exit, OpsError
    from ops.gharchive.batch import InlineRunner
    from ops.gharchive.lines import check_file
    from ops.gharchive.loader import Loader
    from ops.gharchive.rejects import check_target
    from ops.gharchive.worker import open_pool
    from ops.gharchive.workers import Workers
    from ops.stack.database_url import database_to_change, require_database

    if rejects and len(files) > 1:
        raise OpsError("--rejects takes a single input file; omit it to get one file per input", Exit.USAGE)
    if rejects:
        check_target(rejects)
    done: list[dict[str, object]] = []
    with ExitStack() as stack_:
        if as_json:
            stack_.enter_context(_reported(done, dry_run=dry_run))
        # Before the first is loaded, so that a mistyped name changes nothing.
        for name in files:
            check_file(name)
        targets = [rejects or _rejects_of(name) for name in files]
        for target in targets:
            if any(name != "-" and target.exists() and target.samefile(name) for name in files):
                raise OpsError(
                    f"rejected lines would overwrite the input file {target}; rename it, or choose another with"
                    " --rejects",
                    Exit.USAGE,
                )
        _refuse_shared(files, targets)
        database = loader = None
        if not dry_run:
            database = database_to_change(url, role="app", stack=stack)
        # Their processes start while this one checks the database.
        workers = stack_.enter_context(Workers(database, jobs)) if jobs > 1 else None
        if database is not None:
            require_database(database)
            with ExitStack() as until_workers:
                pool = open_pool(database)
                (until_workers if jobs > 1 else stack_).callback(pool.close)
                # A server that does not answer is detected sooner than the pool's deadline.
                pool.fetch_one(
                    READ_CONNECTION_LIMIT, {}, class_row(ConnectionLimit), Deadline(_ANSWER_SECONDS)
                )
                loader = Loader(pool)
        runner = workers or InlineRunner(loader)
        for name, target in zip(files, targets, strict=True):
            done.append({"file": name})
            _load(name, target, runner, done[-1], as_json=as_json, dry_run=dry_run)


@contextmanager
def _reported(files: list[dict[str, object]], *, dry_run: bool) -> Iterator[None]:
    """Print the JSON object after the block, also after a failure: what precedes it stays loaded."""
    error: str | None = None
    try:
        yield
    except BaseException as failure:
        error = description(failure)
        raise
    finally:
        print_json({"dryRun": dry_run, "files": files, "error": error})


def _rejects_of(name: str) -> Path:
    from ops.gharchive.lines import is_stream

    if name == "-":
        return Path("stdin.rejects.jsonl")
    # No file can be created beside a pipe in /dev/fd.
    return Path(f"{Path(name).name if is_stream(name) else name}.rejects.jsonl")


def _refuse_shared(files: tuple[str, ...], targets: list[Path]) -> None:
    """Raise OpsError (2) if two inputs have the same file for rejected lines: the second would delete the first's."""
    from ops.errors import Exit, OpsError

    inputs: dict[Path, str] = {}
    for name, target in zip(files, targets, strict=True):
        path = target.resolve()
        if path in inputs:
            raise OpsError(
                f"the rejected lines of {inputs[path]} and {name} would be in the same file, {target}; load the two"
                " inputs in separate runs, with --rejects",
                Exit.USAGE,
            )
        inputs[path] = name


def _load(
    name: str, rejects: Path, runner: Runner, record: dict[str, object], *, as_json: bool, dry_run: bool
) -> None:
    """Load a file, and add its counts to `record`, also if it fails."""
    from ops.gharchive.archive import ArchiveImport
    from ops.gharchive.lines import open_lines
    from ops.gharchive.progress import ImportProgress
    from ops.gharchive.rejects import RejectFile

    started = time.monotonic()
    with open_lines(name) as lines:
        reject_file = RejectFile(rejects)
        progress = ImportProgress(name, lines.progress)
        archive = ArchiveImport(lines, reject_file, runner, progress.show)
        tally = archive.tally
        try:
            archive.run()
        finally:
            seconds = time.monotonic() - started
            record |= {
                "lines": tally.lines, "loaded": tally.loaded, "known": tally.known, "rejected": tally.rejected,
                "rejects": str(reject_file.path) if tally.rejected else None, "seconds": round(seconds, 3),
            }  # fmt: skip
            reject_file.close()
            progress.clear()
            if tally.rejected and tally.loaded + tally.known:
                print_line(f"{name}: rejected lines and their reasons are in {reject_file.path}", err=True)
    if not as_json:
        verb = "would be loaded or exist already" if dry_run else f"loaded, {tally.known} existed already"
        print_line(
            f"{name}: {tally.lines} lines, {tally.loaded} {verb}, {tally.rejected} rejected,"
            f" {seconds:.1f} s ({tally.lines / max(seconds, 0.001):.0f} lines/s)"
        )
