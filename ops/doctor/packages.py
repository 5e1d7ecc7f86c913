"""The age of the Debian packages in the containers' images."""

from __future__ import annotations

from ops.doctor.check_result import STACK_OPTION, CheckResult, ok, skipped, warn
from ops.doctor.examination import Examination
from ops.stack.stack_status import PACKAGES_DAYS, old_packages


def packages(examination: Examination) -> CheckResult:
    """packages: check the age of the Debian packages, because old ones lack security updates."""
    container = examination.stack.postgres_container
    if container is None:
        return skipped("the stack has no containers here; AWS maintains its servers")
    # With replicas, the container is the primary's.
    first = examination.stack.members.get("postgres", container)
    old = old_packages(first.removesuffix("postgres"), examination.now())
    if old:
        return warn(
            f"the packages of {', '.join(old)} are up to {max(old.values())} days old",
            f"run `groundwork up{STACK_OPTION} --refresh-images` to install current ones",
            [f"{service}: {days} days" for service, days in old.items()],
        )
    return ok(f"no package is older than {PACKAGES_DAYS} days")
