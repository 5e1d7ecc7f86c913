"""`groundwork backup`, `restore` and `drill`: back up Postgres, restore it, and verify that a restore works."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ops.commands.names import stack_option
from ops.number_range import IntegerRange, seconds
from ops.output import print_json, print_line, print_lines

if TYPE_CHECKING:
    from infra.spec.checkout import Checkout
    from ops.backup.rds import Instance
    from ops.backup.repository import Backup, Contents
    from ops.backup.restore import Target

_stack = stack_option()
_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
# Postgres stores it in 32 bits.
_timeline = IntegerRange(1, 2**32 - 1)


@click.group(invoke_without_command=True)
@_stack
@click.option("--full", "kind", flag_value="full", help="Take a full backup")
@click.option("--incremental", "kind", flag_value="incr", help="Back up only changes since the last backup")
@_json
@click.pass_context
def backup(context: click.Context, stack: str, kind: str | None, as_json: bool) -> None:
    """Take a backup of Postgres

    By default the backup is incremental if a recent full backup exists, and full otherwise.
    """
    if context.invoked_subcommand is not None:
        return
    from infra.spec.checkout import Checkout
    from ops.backup.errors import DamagedPages
    from ops.backup.rds import Instance
    from ops.backup.site import BackupSite
    from ops.backup.take_backup import take_backup
    from ops.errors import Exit, OpsError

    if instance := Instance.of(Checkout.here(), stack):
        if kind == "full":
            raise OpsError("RDS only takes incremental snapshots; omit --full", Exit.USAGE)
        from ops.backup.rds_commands import snapshot_row

        row = snapshot_row(instance.take(_say))
        print_json(row) if as_json else print_line(f"created snapshot {row['label']}")
        return
    try:
        made = take_backup(BackupSite.of(Checkout.here(), stack), kind=kind, progress=_say)
    except DamagedPages as error:
        if as_json:
            print_json(_backup_row(error.made))
        raise
    if as_json:
        print_json(_backup_row(made))
    else:
        print_line(
            f"created backup {made.label}: {_size(made.stored_bytes)} for {_size(made.size_bytes)} of data"
        )


@backup.command("list")
@_stack
@click.option("--timeline", type=_timeline, help="Show the restore windows of this timeline")
@_json
def list_(stack: str, timeline: int | None, as_json: bool) -> None:
    """List backups and restorable points in time

    Each backup is shown with its size, age and WAL range.
    """
    from infra.spec.checkout import Checkout
    from ops.backup import restore as restoring
    from ops.backup.rds import Instance
    from ops.backup.site import BackupSite

    if instance := Instance.of(Checkout.here(), stack):
        from ops.backup.rds_commands import listing, listing_lines

        document = listing(instance)
        print_json(document) if as_json else print_lines(listing_lines(document))
        return
    contents = restoring.look(BackupSite.of(Checkout.here(), stack), timeline)
    if as_json:
        print_json(_contents_document(contents))
    else:
        print_lines(_contents_lines(contents, stack))


@click.command()
@_stack
@click.option(
    "--to", "to", metavar="TIME|LATEST", help="Point in time with a zone (2026-03-01T02:50:00Z), or LATEST"
)
@click.option("--timeline", type=_timeline, help="Timeline, if not the newest (see docs/backup.md)")
@click.option("--abandon", is_flag=True, help="Abandon an interrupted restore; the old data serves again")
@click.option("--adopt", metavar="INSTANCE", help="On AWS: make a restored instance the stack's own")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation")
@_json
def restore(
    stack: str,
    to: str | None,
    timeline: int | None,
    abandon: bool,
    adopt: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Restore Postgres to a point in time

    In Docker, the stack is stopped during the restore, and everything written after that point is lost. On AWS, the
    restore creates an instance beside the stack's, and --adopt switches to it.
    """
    from infra.spec.checkout import Checkout
    from ops.backup import restore as restoring
    from ops.backup.moment import parse_moment
    from ops.backup.post_restore import post_restore_of
    from ops.backup.rds import Instance
    from ops.backup.repository import show_time
    from ops.backup.site import BackupSite
    from ops.errors import Exit, OpsError
    from ops.stack.change_lock import changing
    from ops.stack.connections import describe_database

    if (abandon, to is not None, adopt is not None).count(True) != 1:
        raise OpsError(
            "pass --to TIME, --to LATEST, --abandon or --adopt INSTANCE, and only one of them", Exit.USAGE
        )
    target = None if to is None else restoring.Target(parse_moment(to), timeline)
    checkout = Checkout.here()
    instance = Instance.of(checkout, stack)
    if adopt is not None:
        if timeline is not None:
            raise OpsError("--timeline has no effect with --adopt; omit it", Exit.USAGE)
        if instance is None:
            raise OpsError(
                f"--adopt is for stacks on AWS, and stack {stack!r} is in Docker; pass --to, which restores its server",
                Exit.USAGE,
            )
        with changing(checkout, stack, "restore --adopt"):
            _adopt_on_rds(checkout, instance, adopt, yes, as_json)
        return
    if instance is not None:
        _restore_on_rds(instance, target, yes, as_json)
        return
    site = BackupSite.of(checkout, stack)
    with changing(checkout, stack, "restore"):
        print_line(f"database: {describe_database(stack, 'postgres')}", err=True)
        if target is None:
            was_touched = restoring.abandon(site, _say)
            if as_json:
                print_json({"restore": "abandoned" if was_touched else "none"})
            elif was_touched:
                print_line("the restore was abandoned")
            return
        chosen = restoring.plan(site, target)
        if chosen is not None and not yes:
            _confirm(stack, str(target))
        done = restoring.restore(site, target, post_restore_of(checkout, stack), _say)
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
        print_json(document)
        return
    newest = (
        "" if done.newest_commit is None else f"; the newest commit is from {show_time(done.newest_commit)}"
    )
    began = (
        "" if done.resumed is None else f" by the interrupted restore that began at {show_time(done.resumed)}"
    )
    print_line(f"stack {stack!r} was restored to {done.target}{began}{newest}")
    if not done.is_serving:
        print_line(f"stack {stack!r} is down; `groundwork up --stack {stack}` starts it")
    print_line("Next:")
    print_line(
        f"  groundwork backup --full --stack {stack}       # needed: the restore started a new timeline"
    )
    print_line(
        f"  groundwork migrate status --stack {stack}      # migrations applied after that point are pending"
    )


@click.command()
@_stack
@click.option("--to", "to", metavar="TIME", help="Restore to this point in time, not to a random one")
@click.option("--evidence", type=click.Path(dir_okay=False), help="Also write the evidence to this file")
@click.option(
    "--max-rpo",
    type=seconds(1),
    help="Longest accepted RPO in seconds [default: 60; on AWS 600]",
)
@_json
def drill(stack: str, to: str | None, evidence: str | None, max_rpo: float | None, as_json: bool) -> None:
    """Test a restore, and measure RTO and RPO

    Restores into a temporary server and checks the result. The drill picks a random point in time unless --to is
    given. Exits with 4 if a check fails.
    """
    from pathlib import Path

    from infra.aws.trust import rds_authorities
    from infra.spec.checkout import Checkout
    from ops import atomic_write
    from ops.backup.drill import MAX_RPO_SECONDS, DrillOptions
    from ops.backup.drill import drill as make_drill
    from ops.backup.moment import parse_moment
    from ops.backup.rds import Instance
    from ops.backup.rds_commands import drill as drill_on_rds
    from ops.backup.site import BackupSite
    from ops.errors import Exit, OpsError
    from ops.stack.pulumi_stack import PulumiStack

    checkout = Checkout.here()
    moment = None if to is None else parse_moment(to)
    if to is not None and moment is None:
        raise OpsError("a drill cannot restore to LATEST; pass a time or omit --to", Exit.USAGE)
    if evidence is not None:
        atomic_write.check_target(Path(evidence))
    target = PulumiStack(checkout, stack)
    if instance := Instance.of(checkout, stack):
        settings = target.check_settings()
        # Before the restore, which takes half an hour: a missing file would fail only the last checks.
        ca_file = rds_authorities(checkout, instance.client.meta.region_name, settings.aws_rds_ca_file)
        migrations = checkout.root / settings.migrations_folder
        found = drill_on_rds(instance, moment, max_rpo, str(ca_file), migrations, _say)
    else:
        site = BackupSite.of(checkout, stack)
        settings = target.check_settings()
        options = DrillOptions(
            checkout.root / settings.migrations_folder,
            settings.connection_limits,
            moment,
            max_rpo or MAX_RPO_SECONDS,
        )
        found = make_drill(site, options, _say)
    if as_json:
        print_json(found.document())
    else:
        for check in found.checks.values():
            print_line(
                f"{'ok' if check.ok else 'FAILED' if check.ok is False else '-':<7}{check.name:<12}{check.detail}"
            )
        print_line(f"RTO {_seconds(found.rto_seconds)}, RPO {_seconds(found.rpo_seconds)}")
    # The result is printed first, so that it is not lost if the file cannot be written.
    if evidence is not None:
        atomic_write.write(Path(evidence), json.dumps(found.document(), indent=2) + "\n")
    if not found.ok:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in found.failures)
        raise OpsError(f"the drill failed: {reasons}", Exit.MISMATCH)


def _restore_on_rds(instance: Instance, target: Target | None, yes: bool, as_json: bool) -> None:
    from ops.backup.rds_commands import restore as restore_instance
    from ops.backup.rds_commands import restore_lines
    from ops.errors import Exit, OpsError

    if target is None or target.timeline is not None:
        raise OpsError(
            "on AWS a restore creates a new instance; --abandon and --timeline do not apply", Exit.USAGE
        )
    instance.require_window(target.moment)
    if not yes:
        _require_name(
            instance.stack,
            f"restoring stack {instance.stack!r} to {target} creates an instance, which costs money until you delete"
            f" it; {instance.name} is not changed",
        )
    document = restore_instance(instance, target.moment, _say)
    print_json(document) if as_json else print_lines(restore_lines(document))


def _adopt_on_rds(checkout: Checkout, instance: Instance, name: str, yes: bool, as_json: bool) -> None:
    from ops.backup.rds_adoption import Adoption
    from ops.backup.rds_commands import adopt, adoption_lines
    from ops.policy.guard import refuse_unsafe_up
    from ops.stack.pulumi_stack import PulumiStack
    from ops.toolchain.provision import ensure

    ensure(checkout, docker=False)
    target = PulumiStack(checkout, instance.stack)
    # Before the instances are renamed, because the `up` at the end would be refused.
    target.refuse_pending_creates()
    adoption = Adoption.of(instance, target, name)
    if not yes:
        _require_name(instance.stack, adoption.consequence)
    # Secrets in it stay encrypted.
    backup = checkout.stack_dir(instance.stack) / f"state-before-{adoption.new}.json"
    document = adopt(adoption, backup, refuse_unsafe_up, _say, to_stderr=as_json)
    print_json(document) if as_json else print_lines(adoption_lines(document))


def _say(line: str) -> None:
    print_line(line, err=True)


def _confirm(stack: str, target: str) -> None:
    _require_name(stack, f"restoring stack {stack!r} to {target} discards everything written after it")


def _require_name(stack: str, what: str) -> None:
    """Ask the user to type the stack's name. Raise OpsError (7) without a terminal or if another name is typed."""
    from ops.errors import Exit, OpsError

    if not sys.stdin.isatty():
        raise OpsError(f"{what}; without a terminal, pass --yes", Exit.REFUSED)
    _say(what)
    if click.prompt("Type the stack's name to continue", err=True) != stack:
        raise OpsError("the name does not match; nothing was changed", Exit.REFUSED)


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
        "isDamaged": made.is_damaged,
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


def _contents_lines(contents: Contents, stack: str) -> list[str]:
    from datetime import UTC, datetime

    if not contents.backups:
        return [f"stack {stack!r} has no backup; run `groundwork backup --stack {stack}`"]
    lines = [f"{'backup':<36}{'type':<6}{'age':>8}{'data':>9}{'stored':>9}  WAL"]
    for b in contents.backups:
        age = datetime.now(UTC) - b.stop
        words = f"{age.days} d" if age.days else f"{age.seconds // 3600}:{age.seconds // 60 % 60:02} h"
        lines.append(
            f"{b.label:<36}{b.kind:<6}{words:>8}{_size(b.size_bytes):>9}{_size(b.stored_bytes):>9}"
            f"  {b.wal_start} to {b.wal_stop}{'  DAMAGED PAGES' if b.is_damaged else ''}"
        )
    for window in contents.windows():
        lines.append(f"can be restored: {window}")
    if contents.missing():
        lines.append(
            f"WAL is missing: {len(contents.missing())} segments, the first is {contents.missing()[0]}"
        )
    return lines


def _size(number: int) -> str:
    return f"{number / 1024**2:.1f}MB" if number < 1024**3 else f"{number / 1024**3:.1f}GB"


def _seconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} s"
