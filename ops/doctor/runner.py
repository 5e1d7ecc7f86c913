"""Select and run checks. Servers are checked in parallel, the checks of one server one after the other.

An error in one check never stops another. If a server becomes unreachable, its remaining checks are skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ops.doctor.check_result import STACK_OPTION, CheckResult, CheckStatus, fail, skipped
from ops.doctor.examination import Check, CheckedServer, Examination
from ops.errors import Exit, OpsError, exit_code_of
from ops.servers.errors import NotVisible, ServerUnreachable, TooSlow, one_line
from ops.stack.aws_advice import for_aws

Result = tuple[Check, CheckResult]
_REACH = (
    f"see whether it is up with `groundwork status{STACK_OPTION}`; after passwords or certificates changed,"
    f" run `groundwork up{STACK_OPTION}`"
)


def choose(checks: Sequence[Check], only: Collection[str], skip: Collection[str]) -> list[Check]:
    """Return the checks of `only` (all if empty) without those of `skip`. Raise OpsError (2) for an unknown name."""
    names = [check.name for check in checks]
    for name in [*only, *skip]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise OpsError(f"unknown check {name!r}; {hint}checks: {', '.join(names)}", Exit.USAGE)
    chosen = [c for c in checks if (not only or c.name in only) and c.name not in skip]
    if not chosen:
        raise OpsError(
            "no check is left, because --skip removes all that --only selects; change one", Exit.USAGE
        )
    return chosen


def examine(examination: Examination, chosen: Sequence[Check], every: Sequence[Check]) -> list[Result]:
    """Run the chosen checks, and return their findings in the order of `every`.

    Each server is checked for reachability first. If that fails, it is a finding even if that check was not chosen.
    """
    lanes = [
        (server, [check for check in chosen if check.server is server], _door(server, every))
        for server in CheckedServer
    ]
    with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
        done = pool.map(lambda lane: list(_lane(examination, *lane)), [lane for lane in lanes if lane[1]])
        found = [result for results in done for result in results]
    return sorted(found, key=lambda result: every.index(result[0]))


def exit_code(results: Iterable[Result]) -> Exit:
    """Return 6 if a server is unreachable, 4 if another check fails, and 0 otherwise."""
    findings = [finding for _, finding in results]
    if any(finding.unreachable for finding in findings):
        return Exit.UNREACHABLE
    return Exit.MISMATCH if any(f.status is CheckStatus.FAIL for f in findings) else Exit.FINE


def _door(server: CheckedServer, every: Sequence[Check]) -> Check | None:
    """Return the check of a server's reachability, or None for OTHERS, which is not a single server."""
    if server is CheckedServer.OTHERS:
        return None
    return next((check for check in every if check.server is server and check.reaches), None)


def _lane(
    examination: Examination, server: CheckedServer, checks: list[Check], door: Check | None
) -> Iterable[Result]:
    lost = ""
    if door is not None:
        finding = _run(door, examination)
        if door in checks or finding.unreachable:
            yield door, finding
        if finding.unreachable:
            lost = f"{server} is unreachable"
    for check in checks:
        if check is door:
            continue
        if lost:
            yield check, skipped(lost)
            continue
        finding = _run(check, examination)
        yield check, finding
        if finding.unreachable and door is not None:
            lost = f"{server} became unreachable"


def _run(check: Check, examination: Examination) -> CheckResult:
    finding = _result(check, examination)
    if STACK_OPTION not in finding.advice:
        return finding
    name = examination.stack.name
    option = "" if name == "dev" else f" --stack {name}"
    advice = finding.advice.replace(STACK_OPTION, option)
    return replace(finding, advice=for_aws(advice, name) if examination.stack.target == "aws" else advice)


def _result(check: Check, examination: Examination) -> CheckResult:
    try:
        return check.examine(examination)
    except ServerUnreachable as error:
        details = tuple(f"{name}: {state}" for name, state in error.servers.items())
        return CheckResult(CheckStatus.FAIL, str(error), _REACH, details, unreachable=True)
    except NotVisible as error:
        return skipped(str(error))
    except TooSlow as error:
        return skipped(f"cancelled: {error}", "run the check again when the server is less busy")
    except OpsError as error:
        return fail(str(error), "check that groundwork supports the server's version")
    except Exception as error:
        code = exit_code_of(error)
        if code is not None:
            # The message says what to do.
            return CheckResult(CheckStatus.FAIL, one_line(error), unreachable=code is Exit.UNREACHABLE)
        # A bug in one check must not hide what the others find.
        return fail(
            f"the check itself failed: {error!r}", "please report it; the other checks are not affected"
        )
