"""Whether the access service is ready, and what it says is missing where it is not."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, fail, ok, skipped
from ops.server_errors import ServerUnreachable, one_line

_SECONDS = 4.0


def readiness(examination: Examination) -> Finding:
    """access: /readyz; its `outbox` is what keeps the cache from lying."""
    url = examination.stack.access_url
    if url is None:
        return skipped("the stack has no access service")
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=_SECONDS) as answer:
            checks = json.load(answer)["checks"]
    except urllib.error.HTTPError as error:
        with error:
            checks = json.load(error)["checks"]
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ServerUnreachable(f"the access service at {url} is not reached: {one_line(reason)}") from error
    missing = [f"{name}: {check['reason']}" for name, check in checks.items() if not check["ok"]]
    if missing:
        return fail(
            f"not ready: {', '.join(missing)}",
            "`groundwork logs --service access` says more; it becomes ready by itself once that is mended",
        )
    return ok(f"{url} is ready")
