"""Resolve the dependencies into the lock files, from which everything is installed.

`python -m scripts.lock` resolves to the newest allowed versions. With `--keep` it changes only what must change.
It also records the checksums of Pulumi's releases. It fails if a version has no wheel for one of the supported
platforms, because nothing is compiled at installation.
The locks contain versions and hashes, but no package index, which is configured on each machine (docs/adr/0004).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ops.toolchain import releases, versions

ROOT = Path(__file__).parents[1]
# Lock -> its sources. The libraries that `make bench` compares with groundwork must have compatible versions.
LOCKS = {
    "requirements.lock": ["pyproject.toml", "--all-extras"],
    "infra/images/access/requirements.lock": ["pyproject.toml"],
    "infra/images/access/requirements-aws.lock": ["pyproject.toml", "--extra", "aws-access"],
    # Patroni alone, whose dependencies are Debian's packages.
    "infra/images/patroni/requirements.lock": ["infra/images/patroni/requirements.in", "--no-deps"],
    "tests/bench/requirements.lock": ["tests/bench/requirements.in", "--constraint", "requirements.lock"],
    "examples/requirements.lock": ["examples/requirements.in", "--constraint", "requirements.lock"],
    "scripts/site/requirements.lock": ["scripts/site/requirements.in", "--constraint", "requirements.lock"],
    # Installed into a separate environment.
    "scripts/supply_chain/requirements.lock": ["scripts/supply_chain/requirements.in"],
}
# The Python versions of docs/toolchain.md. The access image has Debian 12's Python.
PYTHONS = {
    "requirements.lock": ("3.11", "3.12", "3.13", "3.14"),
    "infra/images/access/requirements.lock": ("3.11",),
    "infra/images/access/requirements-aws.lock": ("3.11",),
}
MACHINES = ("x86_64", "aarch64")
# The platforms of the official releases whose sums are recorded.
RELEASE_PLATFORMS = ("linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64")
_SUMS_HEADER = "# SHA-256 sums of Pulumi's official releases, written by `make lock`.\n"
# Universal: one lock for Linux and macOS, with markers for differences.
COMPILE = [
    *("pip", "compile", "--quiet"),
    *("--universal", "--python-version", "3.11"),
    *("--generate-hashes", "--no-annotate", "--no-header"),
]


def main(arguments: list[str]) -> int:
    upgrade = [] if "--keep" in arguments else ["--upgrade"]
    for lock, sources in LOCKS.items():
        command = [sys.executable, "-m", "uv", *COMPILE, *sources, *upgrade, "--output-file", lock]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            print(f"{lock}: cannot be resolved; the file is unchanged", file=sys.stderr)
            return code
    record_sums()
    return max([_find_wheels(*platform) for platform in platforms()])


def record_sums() -> None:
    """Write the sums that Pulumi publishes for the pinned releases. If one is missing, leave the file unchanged."""
    (aws,) = re.findall(
        r"^pulumi-aws==(\S+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    wanted = [
        release
        for platform in RELEASE_PLATFORMS
        for release in (
            releases.cli(versions.PULUMI, platform),
            releases.plugin("docker", versions.DOCKER_PROVIDER, platform),
            releases.plugin("aws", aws, platform),
        )
    ]
    lists = {url: releases.published_sums(url) for url in {release.list_url for release in wanted}}
    missing = [release.archive for release in wanted if release.archive not in lists[release.list_url]]
    if missing:
        print(
            f"{releases.SUMS.name}: unchanged; cannot read the published sums of {', '.join(missing)}",
            file=sys.stderr,
        )
        return
    lines = [f"{lists[release.list_url][release.archive]}  {release.archive}\n" for release in wanted]
    releases.SUMS.write_text(
        "".join([_SUMS_HEADER, *sorted(lines, key=lambda line: line.split()[1])]), encoding="utf-8"
    )


def platforms() -> list[tuple[str, str, str]]:
    """Return every (lock, Python, machine) that needs wheels."""
    return [
        (lock, python, machine)
        for lock, pythons in PYTHONS.items()
        for python in pythons
        for machine in MACHINES
    ]


def _find_wheels(lock: str, python: str, machine: str) -> int:
    """Return 0 if the lock has the hash of a wheel for this platform for each of its requirements."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--target",
        "build/wheels",
    ]
    command += ["--require-hashes", "--only-binary=:all:", "--requirement", lock]
    # Every supported Debian has a newer glibc than 2.28.
    command += ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_28"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        print(
            f"{lock}: a version has no wheel for Python {python} on {machine}; exclude it in pyproject.toml",
            file=sys.stderr,
        )
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
