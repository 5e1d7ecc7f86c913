"""The readiness of the access service."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ops.doctor.check_result import STACK_OPTION, CheckResult, fail, ok, skipped, warn
from ops.doctor.examination import Examination
from ops.servers.errors import ServerUnreachable, one_line
from ops.servers.http_client import fetch

_SECONDS = 4.0


def readiness(examination: Examination) -> CheckResult:
    """access: query /readyz. Its `outbox` check shows whether recorded invalidations reach the cache."""
    url = examination.stack.access_url
    if url is None:
        return skipped("the stack has no access service")
    try:
        status, body = fetch(f"{url}/readyz", _SECONDS)
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ServerUnreachable(f"cannot reach the access service at {url}: {one_line(reason)}") from error
    try:
        checks = json.loads(body)["checks"]
        missing = _by_reason({name: check["reason"] for name, check in checks.items() if not check["ok"]})
        degraded = _by_reason({name: check["reason"] for name, check in checks.items() if check["reason"]})
    except (ValueError, LookupError, TypeError, AttributeError):
        return fail(
            f"{url}/readyz answered {status} without a report",
            f"see `groundwork logs{STACK_OPTION} --service access`; at its limit of connections it answers 503",
        )
    if missing:
        return fail(
            f"not ready: {missing[0]}" if len(missing) == 1 else "not ready",
            f"see `groundwork logs{STACK_OPTION} --service access`; the service becomes ready once the cause is fixed",
            missing if len(missing) > 1 else [],
        )
    if degraded:
        return warn(
            f"{url} is ready, but degraded: {', '.join(degraded)}", f"see `groundwork doctor{STACK_OPTION}`"
        )
    return ok(f"{url} is ready")


def _by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each reason, with the names of all checks that it fails."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(one_line(reason), []).append(name)
    return [f"{', '.join(each)}: {reason}" for reason, each in names.items()]
