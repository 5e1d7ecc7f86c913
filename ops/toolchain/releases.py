"""Download official releases of Pulumi, and check their SHA-256 sums. A release without a known sum is not used.

`releases.sha256` has the sums that `make lock` recorded. For a version without an entry, the sums are read from
the list that Pulumi publishes on GitHub. The archives are on another host, so neither host alone can replace a release.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ops.output import print_line
from ops.toolchain import process

SUMS = Path(__file__).with_name("releases.sha256")
HOST = "https://get.pulumi.com/releases"
GITHUB = "https://github.com/pulumi"
_LIST_SECONDS = 20.0
_LINE = re.compile(r"([0-9a-f]{64})\s+\*?(\S+)")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Release:
    """An archive on Pulumi's server, and the URL of the published list that contains its sum."""

    archive: str
    url: str
    list_url: str


def cli(version: str, platform: str) -> Release:
    """Return the CLI's release for a platform, e.g. `linux-amd64`."""
    archive = f"pulumi-v{version}-{platform.replace('amd64', 'x64')}.tar.gz"
    published = f"{GITHUB}/pulumi/releases/download/v{version}/pulumi-{version}-checksums.txt"
    return Release(archive, f"{HOST}/sdk/{archive}", published)


def plugin(name: str, version: str, platform: str) -> Release:
    """Return the release of a resource plugin, e.g. `docker`, for a platform."""
    archive = f"pulumi-resource-{name}-v{version}-{platform}.tar.gz"
    published = f"{GITHUB}/pulumi-{name}/releases/download/v{version}/pulumi-{name}_{version}_checksums.txt"
    return Release(archive, f"{HOST}/plugins/{archive}", published)


def checksum(release: Release) -> str | None:
    """Return the SHA-256 sum of the archive in hex, or None if it is not known."""
    recorded = read_sums(SUMS.read_text(encoding="utf-8"))
    if release.archive in recorded:
        return recorded[release.archive]
    return published_sums(release.list_url).get(release.archive)


def published_sums(list_url: str) -> dict[str, str]:
    """Return archive -> sum from a list that Pulumi publishes, or an empty dict if the list cannot be read."""
    try:
        with urllib.request.urlopen(list_url, timeout=_LIST_SECONDS) as response:
            return read_sums(response.read(_CHUNK_BYTES).decode())
    except (OSError, http.client.HTTPException, ValueError):
        return {}


def read_sums(text: str) -> dict[str, str]:
    """Parse a text in sha256sum's format, and return file name -> sum. Other lines are ignored."""
    return {
        match[2]: match[1]
        for line in text.splitlines()
        if (match := _LINE.fullmatch(line.strip())) is not None
    }


def download(release: Release, expected: str, target: Path, timeout_seconds: float) -> None:
    """Download an archive to `target`. Raises CommandFailed if that fails, or if its sum is not `expected`.

    Runs in a separate process, so that it can be stopped at once if another part fails, or by Ctrl-C.
    """
    command = [sys.executable, "-P", "-m", "ops.toolchain.releases", release.url, str(target), expected]
    process.run(command, cwd=Path(__file__).parents[2], timeout_seconds=timeout_seconds)


def _main(arguments: list[str]) -> int:
    url, target, expected = arguments
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=_LIST_SECONDS) as response,
            Path(target).open("wb") as opened,
        ):
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                opened.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        print_line(f"{url}: {error}", err=True)
        return 1
    if digest.hexdigest() != expected:
        Path(target).unlink()
        print_line(
            f"{url} has the SHA-256 sum {digest.hexdigest()}, but {expected} is expected; the download was deleted",
            err=True,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
