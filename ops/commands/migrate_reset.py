"""`groundwork migrate reset`: rebuild a development stack's database."""

from __future__ import annotations

import time

import click

from ops.commands.migrate_options import confirm, json_option, lock_limit_options, refuse_foreign, url_option
from ops.commands.migrator_options import exit_codes
from ops.commands.names import stack_option
from ops.output import print_json, print_line


@click.command("reset")
@url_option
@stack_option("Development stack to reset")
@click.option("--yes", is_flag=True, help="Delete all rows without asking")
@lock_limit_options
@json_option
def reset_stack(
    url: str | None,
    stack: str,
    yes: bool,
    wait_seconds: float,
    lock_seconds: float,
    attempts: int,
    as_json: bool,
) -> None:
    """Drop a development stack's schema and rebuild it

    Drops all tables with their rows, applies every migration, loads the sample data and flushes the cache. Refused for
    a stack on AWS, with protected data, or with a name like staging or production, and if --url or DATABASE_URL leads
    to another database. After an interruption, run the same command again.
    """
    from db.migrator import Event, LockLimits, read_source
    from infra.spec.checkout import Checkout
    from ops.stack.reset import require_resettable, reset

    def on_event(event: Event) -> None:
        if event.kind != "statement":
            print_line(event, err=True)

    started = time.monotonic()
    refuse_foreign("reset")
    with exit_codes():
        migrations = read_source()
        for migration in migrations:
            migration.up.check()
        target = require_resettable(Checkout.here(), stack, url)
        print_line(f"database: {target.database}", err=True)
        confirm(
            f"Delete all rows of stack {stack!r}, and create its schema again?",
            yes=yes,
            unasked=f"reset deletes all rows of stack {stack!r}",
        )
        done = reset(target, migrations, LockLimits(wait_seconds, lock_seconds, attempts), on_event)
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        print_json({"dropped": done.dropped, "applied": done.applied, "rows": done.rows, "seconds": seconds})
        return
    print_line(
        f"stack {stack!r} was reset: {done.applied} migrations applied, {done.rows} sample rows loaded, cache flushed"
        f" ({seconds:.1f} s)"
    )
