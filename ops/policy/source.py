"""Read a preview and its waivers from a file or standard input, or create a preview now."""

from __future__ import annotations

import datetime
from pathlib import Path

from infra.policy.plan import Plan
from infra.policy.preview import PreviewError
from infra.policy.rules import IDS
from infra.policy.waiver import Waiver, WaiverError, read_waivers, waivers_of
from infra.text_file import STANDARD_INPUT, read_standard_input, read_text
from ops.errors import Exit, OpsError


def read_plan(file: str) -> Plan:
    """Read a preview from a file, or from standard input for `-`. Raise OpsError (2) if it is not one."""
    name = STANDARD_INPUT if file == "-" else file
    text = read_standard_input() if file == "-" else read_text(Path(file))
    try:
        return Plan.parse(text)
    except PreviewError as error:
        raise OpsError(f"{name} {error}", Exit.USAGE) from error


def make_plan(stack: str) -> Plan:
    """Preview an `up` of the stack. Changes nothing."""
    from infra.spec.checkout import Checkout
    from ops.stack.pulumi_stack import PulumiStack
    from ops.toolchain.provision import ensure

    checkout = Checkout.here()
    target = PulumiStack(checkout, stack)
    target.check_settings()
    ensure(checkout)
    return plan_of(target.preview_json(), stack)


def plan_of(preview: str, stack: str) -> Plan:
    try:
        return Plan.parse(preview)
    except PreviewError as error:
        raise OpsError(
            f"the preview of stack {stack!r} {error}; see why with `groundwork preview --stack {stack}`"
        ) from error


def read_stack_waivers(stack: str, file: Path | None, today: datetime.date) -> tuple[Waiver, ...]:
    """Read waivers from a file, or the stack's own if they exist. Raise OpsError (2) for an invalid file."""
    path = file or waivers_of(stack)
    if file is None and not path.is_file():
        return ()
    try:
        return read_waivers(path, IDS, today)
    except WaiverError as error:
        raise OpsError(str(error), Exit.USAGE) from error
