"""The build contexts of the images, and the digests that name the images.

A context is a folder in the cache, assembled from the checkout. Its digest covers names, modes, bytes, the base image
and the last refresh, so that two checkouts of one commit share images. File modes are derived from the content, so that
neither the umask nor `core.fileMode` changes an image. Uses the standard library only, because the Pulumi program calls
it on every preview.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.docker.engine import server
from infra.images import wheelhouse
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError

IMAGES = Path(__file__).parent
# The published image that all images are built from. Its digest pins the content for every architecture.
BASE_REFERENCE = (
    "debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171"
)
# Its name in the engine. Where no registry can be reached, this is an image built from Debian's packages.
BASE_IMAGE = "groundwork/base:bookworm-20260824"
# The digest of the context that an image was built from.
CONTEXT_LABEL = "groundwork.context"
# Every stage but the last of a Dockerfile has this label.
STAGE_LABEL = "groundwork.stage"
# The files of the checkout in the access image, without the code that uses Pulumi, Docker or the toolchain.
ACCESS_SOURCES = (
    "cache/**/*.py",
    "db/**/*.py",
    "db/queries/*.sql",
    "infra/__init__.py",
    "infra/spec/**/*.py",
    "ops/__init__.py",
    "ops/cli.py",
    "ops/errors.py",
    "ops/file_errors.py",
    "ops/number_range.py",
    "ops/output.py",
    "ops/printable.py",
    "ops/termination.py",
    "ops/commands/__init__.py",
    "ops/commands/lazy_group.py",
    "ops/commands/serve.py",
    "ops/serve/**/*.py",
)
# Additional files in the image for tasks on AWS, which bootstraps the database.
AWS_SOURCES = (
    "ops/bootstrap.py",
    "ops/commands/bootstrap.py",
    "ops/commands/migrator_options.py",
    "ops/servers/__init__.py",
    "ops/servers/errors.py",
)
# The folder of the migrations in the source of an image.
_MIGRATIONS = "db/migrations"
LOCK_NAME = "requirements.lock"
_ACCESS_FILES = ("Dockerfile", LOCK_NAME, "groundwork", "groundwork-health")
_IGNORED = {"__pycache__", ".DS_Store"}
_FOLDER_MODE = 0o755


@dataclass(frozen=True)
class ImageContext:
    """The build context of an image: its folder, and the digest that names the image.

    `refresh` is any text. A changed text makes the next build install the packages again.
    """

    image: str
    folder: Path
    digest: str
    refresh: str = ""

    @property
    def tag(self) -> str:
        """Return the image's reference. Different content has a different tag."""
        return f"groundwork/{self.image}:{self.digest[:16]}"


def stack_images(*, monitoring: bool, has_cluster: bool = False) -> tuple[str, ...]:
    """Return the images of a Docker stack, with Postgres alone or as a cluster. Those that need wheels are last."""
    others = ("redis", *(("monitoring",) if monitoring else ()))
    return ("etcd", *others, "patroni", "access") if has_cluster else ("postgres", *others, "access")


def image_context(checkout: Checkout, image: str, refresh: str = "") -> ImageContext:
    """Return the context of one image, and assemble it in the cache if necessary.

    `access` and `patroni` download missing wheels, and raise WheelhouseError if they cannot. The others need neither
    engine nor network. Raises InfraError for an unknown image.
    """
    if image == "access":
        entries = dict(_access_entries(checkout.root, _wheels(checkout, wheelhouse.LOCK)))
    else:
        folder = IMAGES / image
        if not (folder / "Dockerfile").is_file():
            raise InfraError(
                f"there is no image {image!r}; infra/images contains a folder with a Dockerfile for each image"
            )
        entries = {path.relative_to(folder): path for path in _files(folder)}
    if image == "patroni":
        wheels = _files(_wheels(checkout, wheelhouse.PATRONI_LOCK))
        entries |= {Path("wheels", wheel.name): wheel for wheel in wheels}
    return ImageContext(image, *assemble(checkout, entries, refresh), refresh)


def aws_access_digest(
    root: Path, architecture: str, refresh: str, migrations: str = _MIGRATIONS, rds_file: Path | None = None
) -> str:
    """Return the digest of the image for tasks on AWS, with the given folder of migrations and RDS's authorities.

    It covers the lock file, which contains the hashes of the wheels, so that a preview needs neither wheels nor engine.
    A downloaded file of authorities (`rds_file` is None) has no effect, so that a preview does not download it.
    """
    from infra.aws.trust import RDS_FILE

    entries = dict(_aws_entries(root, migrations))
    if rds_file is not None:
        entries[Path("authorities", RDS_FILE)] = rds_file
    source = _digest(entries.items(), refresh)
    return hashlib.sha256(f"{source}\0{architecture}\n".encode()).hexdigest()


def aws_access_context(
    checkout: Checkout, architecture: str, region: str, ca_file: str, migrations: str = _MIGRATIONS
) -> Path:
    """Assemble the context of the image for tasks on AWS: the access image with boto3 and RDS's authorities."""
    from infra.aws.trust import authorities

    entries = dict(_aws_entries(checkout.root, migrations))
    for name, path in authorities(checkout, region, ca_file).items():
        entries[Path("authorities", name)] = path
    for wheel in _files(wheelhouse.ensure(checkout, architecture, wheelhouse.AWS_LOCK)):
        entries[Path("wheels", wheel.name)] = wheel
    return assemble(checkout, entries)[0]


def assemble(checkout: Checkout, entries: dict[Path, Path], refresh: str = "") -> tuple[Path, str]:
    """Copy `entries` (name in the context -> file) into a folder, and return the folder and their digest.

    The folder is in the cache under its digest, and is created atomically. If two processes race, one uses the other's
    folder.
    """
    digest = _digest(entries.items(), refresh)
    target = checkout.cache_dir / "contexts" / digest
    if target.is_dir():
        return target, digest
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{digest[:16]}.", suffix=".draft", dir=target.parent))
        for name, source in entries.items():
            copy = draft / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(_mode(source.read_bytes()))
        # COPY keeps the modes of folders too.
        for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            folder.chmod(_FOLDER_MODE)
        try:
            draft.rename(target)
        except OSError:
            # Another process was first, and its folder has the same digest.
            if not target.is_dir():
                raise
    except OSError as error:
        raise InfraError(f"cannot assemble the build context {target}: {error.strerror or error}") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return target, digest


def _access_entries(root: Path, wheels: Path) -> Iterator[tuple[Path, Path]]:
    for name in _ACCESS_FILES:
        yield Path(name), IMAGES / "access" / name
    yield Path("authorities/README"), IMAGES / "access" / "authorities.txt"
    for wheel in _files(wheels):
        yield Path("wheels", wheel.name), wheel
    yield from _sources(root, ACCESS_SOURCES)
    yield from _migrations(root / _MIGRATIONS)


def _aws_entries(root: Path, migrations: str) -> Iterator[tuple[Path, Path]]:
    for name in _ACCESS_FILES:
        yield Path(name), wheelhouse.AWS_LOCK if name == LOCK_NAME else IMAGES / "access" / name
    yield Path("authorities/README"), IMAGES / "access" / "authorities.txt"
    yield from _sources(root, (*ACCESS_SOURCES, *AWS_SOURCES))
    yield from _migrations(root / migrations)


def _migrations(folder: Path) -> Iterator[tuple[Path, Path]]:
    for path in folder.glob("*.sql"):
        if path.is_file():
            yield Path("source", _MIGRATIONS, path.name), path


def _sources(root: Path, patterns: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    for pattern in patterns:
        for path in root.glob(pattern):
            if path.is_file() and _IGNORED.isdisjoint(path.parts):
                yield Path("source", path.relative_to(root)), path


def _wheels(checkout: Checkout, lock: Path) -> Path:
    return wheelhouse.ensure(checkout, server().arch, lock)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _IGNORED.isdisjoint(path.relative_to(folder).parts):
            yield path


def _mode(content: bytes) -> int:
    return 0o755 if content.startswith(b"#!") else 0o644


def _digest(entries: Iterable[tuple[Path, Path]], refresh: str) -> str:
    total = hashlib.sha256(f"folders {_FOLDER_MODE:o}\nbase {BASE_REFERENCE}\nrefresh {refresh}\n".encode())
    for name, path in sorted(entries):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        total.update(f"{name.as_posix()}\0{_mode(content):o}\0{digest}\n".encode())
    return total.hexdigest()
