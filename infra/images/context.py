"""Build contexts of the images, and the digest that says whether an image has to be built again.

A digest is over names, modes and bytes, so that two checkouts of one commit share images. Standard library
only: the Pulumi program calls this on every preview.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from infra.docker.engine import docker
from infra.images import wheelhouse
from infra.spec.errors import InfraError
from infra.spec.world import World

IMAGES = Path(__file__).parent
# What the access image holds of the checkout: nothing that drives Pulumi, Docker or the toolchain.
ACCESS_SOURCES = (
    "cache/**/*.py",
    "db/**/*.py",
    "db/queries/*.sql",
    "db/migrations/*.sql",
    "infra/__init__.py",
    "infra/spec/**/*.py",
    "ops/__init__.py",
    "ops/cli.py",
    "ops/errors.py",
    "ops/commands/__init__.py",
    "ops/commands/lazy_group.py",
    "ops/commands/serve.py",
    "ops/serve/**/*.py",
)
# Beside them, in the image for tasks on AWS: what bootstraps the database there.
AWS_SOURCES = (
    "ops/bootstrap.py",
    "ops/commands/bootstrap.py",
    "ops/commands/migrate_options.py",
    "ops/commands/names.py",
    "ops/server_errors.py",
)
LOCK_NAME = "requirements.lock"
AWS_LOCK = IMAGES / "access" / "requirements-aws.lock"
_ACCESS_FILES = ("Dockerfile", LOCK_NAME, "groundwork", "groundwork-health")
_IGNORED = {"__pycache__", ".DS_Store"}


def image_context(name: str) -> tuple[Path, str]:
    """Folder and digest of an image that needs nothing beside its own folder (postgres, redis)."""
    folder = IMAGES / name
    if not (folder / "Dockerfile").is_file():
        raise InfraError(
            f"there is no image {name!r}; infra/images holds one folder with a Dockerfile for each"
        )
    return folder, _digest((path.relative_to(folder), path) for path in _files(folder))


def access_context(world: World) -> tuple[Path, str]:
    """Folder and digest of the access image's context, assembled in the cache where it is not there yet.

    The wheels are downloaded where they are missing (WheelhouseError says why they cannot be).
    """
    return assemble(world, dict(_access_entries(world.root, _wheels(world))))


def aws_access_digest(root: Path, architecture: str) -> str:
    """The digest of the image for tasks on AWS: of the lock, not of the wheels that it names by hash.

    So a preview needs neither wheels nor engine.
    """
    source = _digest(_aws_entries(root))
    return hashlib.sha256(f"{source}\0{architecture}\n".encode()).hexdigest()


def aws_access_context(world: World, architecture: str, region: str, ca_file: str) -> Path:
    """The folder of the image for tasks on AWS: the access image with boto3 and RDS's authorities."""
    from infra.aws.trust import authorities

    entries = dict(_aws_entries(world.root))
    for name, path in authorities(world, region, ca_file).items():
        entries[Path("authorities", name)] = path
    for wheel in _files(wheelhouse.ensure(world, architecture, AWS_LOCK)):
        entries[Path("wheels", wheel.name)] = wheel
    return assemble(world, entries)[0]


def assemble(world: World, entries: dict[Path, Path]) -> tuple[Path, str]:
    """A folder holding copies of `entries` (name in the context -> file), under its digest in the cache.

    It appears whole or not at all; of two processes at once one finds the other's.
    """
    digest = _digest(entries.items())
    target = world.cache_dir / "contexts" / digest
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
            copy.chmod(_mode(source))
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            # Another process was first, and its folder has the same digest.
            if not target.is_dir():
                raise
    except OSError as error:
        raise InfraError(f"cannot assemble the build context {target}: {error.strerror}") from error
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


def _aws_entries(root: Path) -> Iterator[tuple[Path, Path]]:
    for name in _ACCESS_FILES:
        yield Path(name), AWS_LOCK if name == LOCK_NAME else IMAGES / "access" / name
    yield Path("authorities/README"), IMAGES / "access" / "authorities.txt"
    yield from _sources(root, (*ACCESS_SOURCES, *AWS_SOURCES))


def _sources(root: Path, patterns: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    for pattern in patterns:
        for path in root.glob(pattern):
            if path.is_file() and _IGNORED.isdisjoint(path.parts):
                yield Path("source", path.relative_to(root)), path


def _wheels(world: World) -> Path:
    architecture = docker("version", "--format", "{{.Server.Arch}}").strip()
    return wheelhouse.ensure(world, architecture)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _IGNORED.isdisjoint(path.relative_to(folder).parts):
            yield path


def _mode(path: Path) -> int:
    # A checkout's umask is nobody's business: as git does, keep whether it may be executed, and no more.
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _digest(entries: Iterable[tuple[Path, Path]]) -> str:
    total = hashlib.sha256()
    for name, path in sorted(entries):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{name.as_posix()}\0{_mode(path):o}\0{content}\n".encode())
    return total.hexdigest()
