"""Build an image with the docker command, and label it with the Debian packages that it contains."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from infra.docker.engine import DockerError, docker, inspect, label_options
from infra.images import proxies
from infra.images.context import BASE_IMAGE, CONTEXT_LABEL, ImageContext

# Every installed package as `name=version`, separated by spaces.
PACKAGES_LABEL = "groundwork.packages"
# When the packages were installed, in UTC: 2026-11-30T09:00:00Z.
PACKAGES_DATE_LABEL = "groundwork.packages-date"
BUILD_SECONDS = 1200.0

_LIST = "cat /usr/share/groundwork-packages-date && dpkg-query --show --showformat='${Package}=${Version}\\n'"
# Another builder would keep the image in its own cache, because --load is not given.
_ENGINES_OWN_BUILDER = {"BUILDX_BUILDER": "default"}


def ensure(context: ImageContext) -> str:
    """Build a context's image unless the engine has it, and return the image's id. Raises DockerError."""
    for found in inspect("image", context.tag):
        return str(found["Id"])
    return build(context.folder, context.tag, refresh=context.refresh, labels={CONTEXT_LABEL: context.digest})


def build(folder: Path, tag: str, *, refresh: str = "", labels: Mapping[str, str] | None = None) -> str:
    """Build the context `folder`, and return the image's id. Raises DockerError with the last lines of a failed build.

    The Dockerfile gets the base image as argument BASE, and `refresh` as argument REFRESH. A changed `refresh` installs
    the packages again. apt uses the proxies of `infra.images.proxies`. The tag is set last, when the image is complete
    and has PACKAGES_LABEL and PACKAGES_DATE_LABEL.
    """
    draft = f"{tag}.{uuid.uuid4().hex[:8]}.draft"
    arguments = (f"--build-arg=BASE={BASE_IMAGE}", f"--build-arg=REFRESH={refresh}")
    environment = proxies.build_environment()
    _build(
        *(*arguments, *proxies.build_arguments(environment)),
        *("--network=host", "--tag", draft, str(folder)),
        environment=environment,
    )
    try:
        listed = docker("run", "--rm", "--init", "--network=none", "--entrypoint=sh", draft, "-c", _LIST)
        date, *packages = listed.split()
        all_labels = {
            PACKAGES_LABEL: " ".join(packages),
            PACKAGES_DATE_LABEL: date,
            **(labels or {}),
        }
        _build(*label_options(all_labels), "--tag", tag, "-", stdin=f"FROM {draft}\n".encode())
        # With containerd's image store, the build may print an id that the engine does not know.
        return str(inspect("image", tag)[0]["Id"])
    finally:
        # A failed removal must not hide the first error.
        with suppress(DockerError):
            docker("image", "rm", "--no-prune", draft)


def _build(*arguments: str, stdin: bytes | None = None, environment: Mapping[str, str] | None = None) -> None:
    added = dict(environment or {})
    try:
        docker(
            # Without --force-rm, the classic builder leaves the container of the command that failed.
            *("build", "--quiet", "--force-rm", *arguments),
            stdin=stdin,
            timeout_seconds=BUILD_SECONDS,
            environment=added | _ENGINES_OWN_BUILDER,
        )
    except DockerError as error:
        # A failed build prints the complete output of its programs. The first line and the last ten are kept.
        lines = proxies.without_logins(str(error), added.values()).splitlines()
        # Not chained: a traceback would print the first error, which may contain a proxy's password.
        raise DockerError("\n".join(lines[:1] + lines[1:][-10:])) from None
