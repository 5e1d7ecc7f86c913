"""Where a preview and its waivers come from: a file, standard input, or a preview that is made now."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from infra.policy.catalogue import IDS
from infra.policy.plan import Plan
from infra.policy.preview import PreviewError
from infra.policy.waiver import Waiver, WaiverError, read_waivers, waivers_of
from ops.errors import Exit, OpsError


def read_plan(file: str) -> Plan:
    """The preview in a file, or on standard input for `-`. OpsError (2) for anything else."""
    name = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{name} cannot be read: {error}", Exit.USAGE) from error
    try:
        return Plan.parse(text)
    except PreviewError as error:
        raise OpsError(f"{name} {error}", Exit.USAGE) from error


def make_plan(stack: str) -> Plan:
    """What an `up` of the stack would do now; changes nothing."""
    from infra.spec.world import World
    from ops.pulumi_stack import PulumiStack
    from ops.toolchain.provision import ensure

    world = World.here()
    target = PulumiStack(world, stack)
    target.check_settings()
    ensure(world)
    return plan_of(target.preview_json(), stack)


def plan_of(preview: str, stack: str) -> Plan:
    try:
        return Plan.parse(preview)
    except PreviewError as error:
        raise OpsError(
            f"the preview of stack {stack!r} {error}; `groundwork preview --stack {stack}` says why"
        ) from error


def read_stack_waivers(stack: str, file: Path | None, today: datetime.date) -> tuple[Waiver, ...]:
    """A file's waivers, or the stack's own, which need not be there. OpsError (2) where the file is not right."""
    path = file or waivers_of(stack)
    if file is None and not path.is_file():
        return ()
    try:
        return read_waivers(path, IDS, today)
    except WaiverError as error:
        raise OpsError(str(error), Exit.USAGE) from error
