"""`groundwork backup`, `restore`, `drill`: Postgres's backups, and the proof that they are some."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ops.commands.names import stack_option

if TYPE_CHECKING:
    from ops.backup.rds import Instance
    from ops.backup.repository import Backup, Contents
    from ops.backup.restore import Target

_stack = stack_option()
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.group(invoke_without_command=True)
@_stack
@click.option("--full", "kind", flag_value="full", help="A full backup.")
@click.option("--incremental", "kind", flag_value="incr", help="Only what changed since the last one.")
@_json
@click.pass_context
def backup(context: click.Context, stack: str, kind: str | None, as_json: bool) -> None:
    """Take a backup: incremental where there is a full one that is young enough."""
    if context.invoked_subcommand is not None:
        return
    from infra.spec.world import World
    from ops.backup.rds import Instance
    from ops.backup.site import Site
    from ops.backup.taking import take
    from ops.errors import Exit, OpsError

    if instance := Instance.of(World.here(), stack):
        if kind == "full":
            raise OpsError("RDS takes incremental snapshots only; leave --full out", Exit.USAGE)
        from ops.backup.rds_commands import snapshot_row

        row = snapshot_row(instance.take(_say))
        print(json.dumps(row, indent=2) if as_json else f"snapshot {row['label']} is made")
        return
    made = take(Site.of(World.here(), stack), kind=kind, progress=_say)
    if as_json:
        print(json.dumps(_backup_row(made), indent=2))
    else:
        print(f"backup {made.label} is made: {_size(made.stored_bytes)} for {_size(made.size_bytes)} of data")


@backup.command("list")
@_stack
@click.option("--timeline", type=click.IntRange(min=1), help="The windows along another timeline.")
@_json
def list_(stack: str, timeline: int | None, as_json: bool) -> None:
    """List backups with size, age and WAL, and the window to which a restore is possible."""
    from infra.spec.world import World
    from ops.backup import restore as restoring
    from ops.backup.rds import Instance
    from ops.backup.site import Site

    if instance := Instance.of(World.here(), stack):
        from ops.backup.rds_commands import listing, listing_text

        document = listing(instance)
        print(json.dumps(document, indent=2) if as_json else listing_text(document))
        return
    contents = restoring.look(Site.of(World.here(), stack), timeline)
    if as_json:
        print(json.dumps(_contents_document(contents), indent=2))
    else:
        print(_contents_text(contents, stack))


@click.command()
@_stack
@click.option(
    "--to", "to", metavar="TIME|LATEST", help="A moment with a zone (2026-03-01T02:50:00Z), or LATEST."
)
@click.option(
    "--timeline", type=click.IntRange(min=1), help="Another timeline than the newest: see docs/backup.md."
)
@click.option("--abandon", is_flag=True, help="Give an interrupted restore up; the old data serves again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def restore(
    stack: str, to: str | None, timeline: int | None, abandon: bool, yes: bool, as_json: bool
) -> None:
    """Restore Postgres to a moment; what was written after it is gone. Stops the stack meanwhile."""
    from infra.spec.world import World
    from ops.backup import restore as restoring
    from ops.backup.keepers import keepers_of
    from ops.backup.moment import parse_moment
    from ops.backup.rds import Instance
    from ops.backup.repository import show_time
    from ops.backup.site import Site
    from ops.errors import Exit, OpsError

    if abandon == (to is not None):
        raise OpsError("say --to TIME or --to LATEST; or --abandon, alone", Exit.USAGE)
    target = None if to is None else restoring.Target(parse_moment(to), timeline)
    world = World.here()
    if instance := Instance.of(world, stack):
        _restore_on_rds(instance, target, yes, as_json)
        return
    site = Site.of(world, stack)
    if target is None:
        restoring.abandon(site, _say)
        print("the restore is abandoned") if not as_json else print(json.dumps({"restore": "abandoned"}))
        return
    chosen = restoring.plan(site, target)
    if chosen is not None and not yes:
        _confirm(stack, str(target))
    done = restoring.restore(site, target, keepers_of(world, stack), _say)
    if as_json:
        document = {
            "restore": "done",
            "target": done.target,
            "backup": done.backup,
            "newestCommit": None if done.newest_commit is None else done.newest_commit.isoformat(),
            "timeline": done.timeline,
            "isServing": done.is_serving,
            "fullBackupDue": True,
        }
        print(json.dumps(document, indent=2))
        return
    newest = (
        "" if done.newest_commit is None else f"; its newest commit is of {show_time(done.newest_commit)}"
    )
    print(f"stack {stack!r} is restored to {done.target}{newest}")
    if not done.is_serving:
        print(f"it is down; `groundwork up --stack {stack}` brings it up")
    print("Next:")
    print(f"  groundwork backup --full --stack {stack}       # due: a timeline of its own has begun")
    print(f"  groundwork migrate status --stack {stack}      # migrations made since that moment are pending")


@click.command()
@_stack
@click.option("--to", "to", metavar="TIME", help="This moment instead of a random one.")
@click.option("--evidence", type=click.Path(dir_okay=False), help="Write the evidence into this file too.")
@click.option(
    "--max-rpo",
    type=click.FloatRange(min=1),
    help="Seconds that a commit may take into the repository: 60, on AWS 600.",
)
@_json
def drill(stack: str, to: str | None, evidence: str | None, max_rpo: float | None, as_json: bool) -> None:
    """Restore to a random moment in a throwaway, check it, measure RTO and RPO; exit 4 where a check fails."""
    from pathlib import Path

    from infra.spec.world import World
    from ops import whole_file
    from ops.backup.drill import MAX_RPO_SECONDS, Terms
    from ops.backup.drill import drill as make_drill
    from ops.backup.moment import parse_moment
    from ops.backup.rds import Instance
    from ops.backup.site import Site
    from ops.errors import Exit, OpsError

    world = World.here()
    moment = None if to is None else parse_moment(to)
    if to is not None and moment is None:
        raise OpsError("a drill restores to a moment that has something after it; leave --to out", Exit.USAGE)
    if evidence is not None:
        whole_file.check_target(Path(evidence))
    if instance := Instance.of(world, stack):
        from ops.backup.rds_commands import drill as drill_on_rds

        found = drill_on_rds(instance, moment, max_rpo, str(world.ca_file(stack)), _say)
    else:
        terms = Terms(moment, max_rpo or MAX_RPO_SECONDS, world.ca_file(stack))
        found = make_drill(Site.of(world, stack), terms, _say)
    document = json.dumps(found.document(), indent=2)
    if as_json:
        print(document)
    else:
        for check in found.checks.values():
            print(
                f"{'ok' if check.ok else 'FAILED' if check.ok is False else '-':<7}{check.name:<12}{check.detail}"
            )
        print(f"RTO {_seconds(found.rto_seconds)}, RPO {_seconds(found.rpo_seconds)}")
    # After it was said: where the file cannot be written, what was found is not lost.
    if evidence is not None:
        whole_file.write(Path(evidence), document + "\n")
    if not found.ok:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
        raise OpsError(f"the drill failed: {reasons}", Exit.MISMATCH)


def _restore_on_rds(instance: Instance, target: Target | None, yes: bool, as_json: bool) -> None:
    from ops.backup.rds_commands import restore as restore_instance
    from ops.backup.rds_commands import restore_text
    from ops.errors import Exit, OpsError

    if target is None or target.timeline is not None:
        raise OpsError(
            "on AWS a restore is a new instance: there is no --abandon and no --timeline", Exit.USAGE
        )
    instance.require_window(target.moment)
    if not yes:
        # It takes nothing back, and costs an instance.
        _confirm(instance.stack, str(target))
    document = restore_instance(instance, target.moment, _say)
    print(json.dumps(document, indent=2) if as_json else restore_text(document))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _confirm(stack: str, target: str) -> None:
    """Ask for the stack's name; refused (7) without a terminal."""
    from ops.errors import Exit, OpsError

    what = f"a restore of stack {stack!r} to {target} takes back what was written after it"
    if not sys.stdin.isatty():
        raise OpsError(f"{what}; without a terminal it needs --yes", Exit.REFUSED)
    _say(what)
    if click.prompt("The stack's name, to go on", err=True) != stack:
        raise OpsError("that is another name; nothing was touched", Exit.REFUSED)


def _backup_row(made: Backup) -> dict[str, Any]:
    return {
        "label": made.label,
        "type": made.kind,
        "startedAt": made.start.isoformat(),
        "stoppedAt": made.stop.isoformat(),
        "sizeBytes": made.size_bytes,
        "storedBytes": made.stored_bytes,
        "walStart": str(made.wal_start),
        "walStop": str(made.wal_stop),
    }


def _contents_document(contents: Contents) -> dict[str, Any]:
    return {
        "backups": [_backup_row(b) for b in contents.backups],
        "windows": [
            {"from": w.start.isoformat(), "to": None if w.end is None else w.end.isoformat()}
            for w in contents.windows()
        ],
        "timeline": contents.history.timeline,
        "missingWal": [str(segment) for segment in contents.missing()],
        "newestWal": None if contents.newest is None else str(contents.newest),
    }


def _contents_text(contents: Contents, stack: str) -> str:
    from datetime import UTC, datetime

    if not contents.backups:
        return f"stack {stack!r} has no backup yet; `groundwork backup --stack {stack}` makes one"
    lines = [f"{'backup':<36}{'type':<6}{'age':>8}{'data':>9}{'stored':>9}  WAL"]
    for b in contents.backups:
        age = datetime.now(UTC) - b.stop
        words = f"{age.days} d" if age.days else f"{age.seconds // 3600}:{age.seconds // 60 % 60:02} h"
        lines.append(
            f"{b.label:<36}{b.kind:<6}{words:>8}{_size(b.size_bytes):>9}{_size(b.stored_bytes):>9}"
            f"  {b.wal_start} to {b.wal_stop}"
        )
    for window in contents.windows():
        lines.append(f"can be restored: {window}")
    if contents.missing():
        lines.append(f"WAL is missing: {len(contents.missing())} files from {contents.missing()[0]} on")
    return "\n".join(lines)


def _size(number: int) -> str:
    return f"{number / 1024**2:.1f}MB" if number < 1024**3 else f"{number / 1024**3:.1f}GB"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
