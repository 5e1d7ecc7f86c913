"""Chooses checks, and runs them: servers beside one another, the checks of one server one after the other.

What one check meets never stops another; after a server is lost, its further checks are skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ops.doctor.examination import Check, Examination, Server
from ops.doctor.finding import Finding, Status, fail, skipped
from ops.errors import Exit, OpsError
from ops.server_errors import NotVisible, ServerUnreachable, TooSlow

Result = tuple[Check, Finding]
_REACH = "is it up (`groundwork status`)? after a change of passwords or certificates run `groundwork up`"


def choose(checks: Sequence[Check], only: Collection[str], skip: Collection[str]) -> list[Check]:
    """The checks of `only` (all where it is empty) less those of `skip`. OpsError (2) for a name that is none."""
    names = [check.name for check in checks]
    for name in [*only, *skip]:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise OpsError(f"there is no check {name!r}; {hint}there are: {', '.join(names)}", Exit.USAGE)
    chosen = [c for c in checks if (not only or c.name in only) and c.name not in skip]
    if not chosen:
        raise OpsError("no check is left; --skip takes away what --only named", Exit.USAGE)
    return chosen


def examine(examination: Examination, chosen: Sequence[Check], every: Sequence[Check]) -> list[Result]:
    """The findings in the order of `every`.

    A server that a chosen check asks is reached first; where that fails it is a finding, chosen or not.
    """
    lanes = [
        (server, [check for check in chosen if check.server is server], _door(server, every))
        for server in Server
    ]
    with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
        done = pool.map(lambda lane: list(_lane(examination, *lane)), [lane for lane in lanes if lane[1]])
        found = [result for results in done for result in results]
    return sorted(found, key=lambda result: every.index(result[0]))


def exit_code(results: Iterable[Result]) -> Exit:
    """6 where something is not reached, 4 where something else fails, or else 0."""
    findings = [finding for _, finding in results]
    if any(finding.unreachable for finding in findings):
        return Exit.UNREACHABLE
    return Exit.MISMATCH if any(f.status is Status.FAIL for f in findings) else Exit.FINE


def _door(server: Server, every: Sequence[Check]) -> Check | None:
    """The check that says whether a server is reached; what is not one server has none."""
    if server is Server.OTHERS:
        return None
    return next((check for check in every if check.server is server and check.reaches), None)


def _lane(
    examination: Examination, server: Server, checks: list[Check], door: Check | None
) -> Iterable[Result]:
    lost = ""
    if door is not None:
        finding = _run(door, examination)
        if door in checks or finding.unreachable:
            yield door, finding
        if finding.unreachable:
            lost = f"{server} is not reached"
    for check in checks:
        if check is door:
            continue
        if lost:
            yield check, skipped(lost)
            continue
        finding = _run(check, examination)
        yield check, finding
        if finding.unreachable and door is not None:
            lost = f"{server} was lost"


def _run(check: Check, examination: Examination) -> Finding:
    try:
        return check.examine(examination)
    except ServerUnreachable as error:
        return Finding(Status.FAIL, str(error), _REACH, unreachable=True)
    except NotVisible as error:
        return skipped(str(error))
    except TooSlow as error:
        return skipped(f"given up: {error}", "run it again when the server is less busy")
    except OpsError as error:
        return fail(str(error), "see whether the server is of a version that groundwork supports")
    except Exception as error:  # One defect must not hide what the other checks would have found.
        return fail(
            f"the check itself failed: {error!r}", "please report it; the other checks are not affected"
        )
