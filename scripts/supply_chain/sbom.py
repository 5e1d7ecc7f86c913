"""Write bills of materials in CycloneDX to build/sbom: of each image, and of .venv.

`python -m scripts.supply_chain.sbom STACK` builds the images if the engine does not have them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.docker.engine import DockerError, docker
from infra.images.build import ensure
from infra.images.context import IMAGES, ImageContext, image_context
from infra.settings import DOCKER
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from ops.errors import OpsError
from ops.stack.pulumi_stack import PulumiStack
from scripts.supply_chain import tools

FOLDER = tools.ROOT / "build" / "sbom"
VERSION = "1.6"


def main(arguments: list[str]) -> int:
    (stack,) = arguments
    checkout = Checkout.here()
    try:
        settings = PulumiStack(checkout, stack).check_settings()
        if settings.target != DOCKER:
            print(
                f"stack {stack!r} is on AWS, but only images of stacks on Docker can be listed; name one",
                file=sys.stderr,
            )
            return 7
        programs = tools.install()
        FOLDER.mkdir(parents=True, exist_ok=True)
        for image in sorted(dockerfile.parent.name for dockerfile in IMAGES.glob("*/Dockerfile")):
            _print(of_image(programs, image_context(checkout, image, settings.image_refresh)))
    except (OpsError, InfraError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    python = [str(programs / "cyclonedx-py")]
    for image in ("access", "patroni"):
        lock = f"infra/images/{image}/requirements.lock"
        _print(_written(f"{image}-python", [*python, "requirements", lock]))
    _print(_written("environment", [*python, "environment", sys.executable]))
    return 0


def of_image(programs: Path, context: ImageContext) -> Path:
    """Write the bill of an image's Debian packages, and return its path. Raises DockerError."""
    ensure(context)
    target = FOLDER / context.image
    container = docker("create", context.tag).strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as exporting:
            done = subprocess.run(
                [str(programs / "debsbom"), "generate", "--sbom-type", "cdx", "--cdx-schema-version", VERSION]
                + ["--distro-name", f"groundwork/{context.image}", "--distro-version", context.digest[:16]]
                + ["--root", "-", "--out", str(target)],
                stdin=exporting.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
    finally:
        docker("rm", container)
    if done.returncode or exporting.returncode:
        raise DockerError(f"cannot list the packages of {context.tag}: {done.stderr.strip()}")
    return target.with_suffix(".cdx.json")


def _written(name: str, command: list[str]) -> Path:
    path = FOLDER / f"{name}.cdx.json"
    subprocess.run(
        [*command, "--spec-version", VERSION, "--output-file", str(path)], cwd=tools.ROOT, check=True
    )
    return path


def _print(path: Path) -> None:
    print(path.relative_to(tools.ROOT))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
