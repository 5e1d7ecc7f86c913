"""Find the real AWS provider in the shared cache, or install it there: `make aws-provider`.

It has two parts in one folder: a bridge, which Go builds from ops/toolchain/go/aws_provider, and HashiCorp's Terraform
provider for AWS, which the bridge starts. The second part is the official release. It is downloaded, or linked from a
folder with its unpacked files.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import signal
import stat
import sys
import urllib.request
import zipfile
from pathlib import Path

from rich.console import Console

from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.toolchain import disk, golang, store, versions
from ops.toolchain.progress import Progress

TERRAFORM_PROVIDER = "5.100.0"
# Checksums of the release's files on each platform, as Terraform writes them into its lock files.
CHECKSUMS = {
    "darwin-arm64": "h1:Ijt7pOlB7Tr7maGQIqtsLFbl7pSMIj06TVdkoSBcYOw=",
    "linux-amd64": "h1:edXOJWE4ORX8Fm+dpVpICzMZJat4AX0VRCAy/xkcOc0=",
}
BUILD = golang.Build(
    module=versions.SOURCES / "aws_provider",
    package=".",
    # The engine asks for a plugin of the version of the Python package.
    ldflags=f"-s -w -X main.version={importlib.metadata.version('pulumi-aws')}",
    whole=golang.Whole(packages=1455, seconds=100),
)
_RELEASES = "https://releases.hashicorp.com/terraform-provider-aws"
_GIB = 1.2
_BRIDGE = "pulumi-resource-aws"
_EXECUTABLE = "terraform-provider-aws"
_TITLE = "AWS provider for tests"


def find() -> Path | None:
    """Return the folder of the provider, or None if it is not in the cache."""
    folder = _folder()
    # Path.is_file() follows links: a linked release may have been deleted.
    complete = (folder / _BRIDGE).is_file() and any(each.is_file() for each in folder.glob(f"{_EXECUTABLE}*"))
    return folder if complete else None


def install(release: Path | None, progress: Progress) -> Path:
    """Return the folder of the provider. Build and download what the cache lacks. Raises OpsError.

    `release` is a folder with the unpacked release of the Terraform provider, which is linked instead of downloaded.
    """
    cache = Checkout.here().cache_dir
    with store.exclusive(cache, "aws-provider", lambda who: progress.say(f"{_TITLE}: waiting for {who}")):
        if (found := find()) is not None:
            return found
        if versions.platform_name() not in CHECKSUMS:
            raise OpsError(
                f"there is no checksum of the Terraform provider for {versions.platform_name()}; "
                f"add it to {Path(__file__).name}"
            )
        disk.require(cache, _TITLE, _GIB)
        with store.publishing(_folder()) as draft:
            if release is None:
                _download(draft, progress)
            else:
                _link(release, draft)
            _build(draft, progress)
    return _folder()


def checksum(folder: Path) -> str:
    """Return Terraform's checksum of a release's files: a digest of their digests and names."""
    lines = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as opened:
            lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {path.name}\n")
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def _folder() -> Path:
    key = f"{TERRAFORM_PROVIDER}-{versions.platform_name()}-{versions.recipe('aws_provider')}"
    return Checkout.here().cache_dir / "aws-provider" / key


def _link(release: Path, draft: Path) -> None:
    if not release.is_dir():
        raise OpsError(f"{release} is not a directory; name the folder with the Terraform provider's files")
    _check(release)
    (executable,) = release.glob(f"{_EXECUTABLE}*")
    (draft / executable.name).symlink_to(executable.resolve())


def _download(draft: Path, progress: Progress) -> None:
    archive = f"{_EXECUTABLE}_{TERRAFORM_PROVIDER}_{versions.platform_name().replace('-', '_')}.zip"
    url = f"{_RELEASES}/{TERRAFORM_PROVIDER}/{archive}"
    packed, files = draft / archive, draft / "release"
    with progress.step(f"Terraform provider {TERRAFORM_PROVIDER}", "downloading the official release"):
        try:
            with urllib.request.urlopen(url, timeout=20) as response, packed.open("wb") as opened:
                while chunk := response.read(1 << 20):
                    opened.write(chunk)
            with zipfile.ZipFile(packed) as opened_archive:
                opened_archive.extractall(files)
        except (OSError, zipfile.BadZipFile) as error:
            raise OpsError(
                f"cannot download {url}: {error}; "
                "unpack it by other means, and run `make aws-provider TERRAFORM_PROVIDER=FOLDER`"
            ) from error
    packed.unlink()
    _check(files)
    (executable,) = files.glob(f"{_EXECUTABLE}*")
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    executable.rename(draft / executable.name)
    store.discard(files)


def _check(release: Path) -> None:
    found, expected = checksum(release), CHECKSUMS[versions.platform_name()]
    if found != expected:
        raise OpsError(
            f"the files in {release} have the checksum {found}, but those of the Terraform provider "
            f"{TERRAFORM_PROVIDER} have {expected}; use an unchanged release of this version"
        )


def _build(draft: Path, progress: Progress) -> None:
    go = golang.find(Checkout.here(), progress)
    with progress.step(_TITLE, "preparing the build") as step:
        golang.compile(go, BUILD, draft / _BRIDGE, step)
        step.doing = "built from Go modules"


def main(arguments: list[str]) -> int:
    # With SIGTERM's default action, the compilers would continue after this process has ended.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    progress = Progress(Console(stderr=True, force_terminal=False))
    try:
        folder = install(Path(arguments[0]) if arguments else None, progress)
    except OpsError as error:
        progress.say(f"groundwork: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
