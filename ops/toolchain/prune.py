"""Find and delete what groundwork left on this machine: images, build contexts, versions of the toolchain.

The newest two of each kind are kept, and so is everything that a container, a process or a stack of any checkout uses.
Stacks whose state is in another state folder are not known.
Only what the next `up` can recreate is deleted. Data, settings and secrets are in none of these places.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from infra.checkpoint import read_deployment, resources_of, state_files
from infra.docker.engine import DockerError, docker
from infra.docker_command import read_object
from infra.images import wheelhouse
from infra.images.context import CONTEXT_LABEL, STAGE_LABEL
from infra.spec.checkout import PROJECT, Checkout
from infra.spec.errors import InfraError
from ops.toolchain import store, versions

NEWEST = 2
# Anything younger may be needed soon, e.g. by a build that has just finished or between two commands of a test.
GRACE_SECONDS = 3600
# An older draft was left behind by a killed run.
DRAFT_SECONDS = 24 * 3600
# The engine sums up the sizes of all files: that takes as long as the disk is slow.
_DISK_USAGE_SECONDS = 60.0
_DISK_USAGE_RETRY_SECONDS = 0.25
IMAGE, CONTEXT = "image", "build context"
_OURS = (f"{PROJECT}/", f"{PROJECT}-test/")
_IMAGE_TYPE = "pulumi-python:dynamic/docker:Image"
# Folder of the cache -> its content, and the lock that the builder takes.
_VERSIONS = {
    "pulumi": ("Pulumi CLI", "pulumi"),
    "pulumi-home": ("Pulumi plugins", "docker-provider"),
    "go": ("Go", "go"),
    "actionlint": ("actionlint", "actionlint"),
    "aws-provider": ("AWS provider for tests", "aws-provider"),
    "wheelhouse": ("wheels", None),
}
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Item:
    """Something that takes disk space; `kept_because` is None if it can be deleted. An image has no folder."""

    kind: str
    name: str
    bytes: int
    kept_because: str | None
    folder: Path | None = None
    lock: str | None = None

    def as_json(self) -> dict[str, object]:
        return {"kind": self.kind, "name": self.name, "bytes": self.bytes, "keptBecause": self.kept_because}


def find_items(checkout: Checkout, say: Callable[[str], None]) -> list[Item]:
    """Return all items, each with the reason if it is kept.

    If the Docker engine does not answer, `say` gets the reason, and images and build contexts are left out.
    """
    try:
        images = list(_images(checkout))
    except DockerError as error:
        say(f"images and build contexts are left out: {error}")
        return list(_versions(checkout))
    return [*images, *_contexts(checkout, images), *_versions(checkout)]


def delete(checkout: Checkout, item: Item) -> str | None:
    """Delete an item. Return None, or the reason if it was not deleted. The engine itself keeps an image in use."""
    if item.folder is None:
        try:
            docker("image", "rm", item.name)
        except DockerError as error:
            return str(error)
        return None
    with _lock(checkout, item.lock) as is_free:
        if not is_free:
            return "it is being built"
        doomed = item.folder.with_name(f".{item.folder.name.strip('.')}.{os.getpid()}.draft")
        try:
            # Rename first, so that no other process sees a half-deleted folder.
            item.folder.rename(doomed)
        except OSError as error:
            return f"cannot remove {item.folder}: {error.strerror}"
        store.discard(doomed)
        return f"a part of it is left in {doomed}; remove that" if os.path.lexists(doomed) else None


def _disk_usage() -> str:
    """Return the engine's images as JSON. The engine refuses a request while it answers another, so wait for that."""
    last = time.monotonic() + _DISK_USAGE_SECONDS
    while True:
        try:
            return docker("system", "df", "--verbose", "--format", "{{json .Images}}")
        except DockerError as error:
            if "disk usage operation is already running" not in str(error) or time.monotonic() > last:
                raise
        time.sleep(_DISK_USAGE_RETRY_SECONDS)


def _images(checkout: Checkout) -> Iterator[Item]:
    rows = json.loads(_disk_usage())
    nameless = {image for label in (CONTEXT_LABEL, STAGE_LABEL) for image in _untagged(label)}
    ours = (row for row in rows if row["Repository"].startswith(_OURS) or _short(row["ID"]) in nameless)
    users, unread = _users_of_images(checkout)
    by_repository = defaultdict(list)
    for row in sorted(ours, key=_created, reverse=True):
        by_repository[row["Repository"]].append(row)
    for repository, found in sorted(by_repository.items()):
        for position, row in enumerate(found):
            identity = _short(row["ID"])
            is_nameless = identity in nameless
            yield Item(
                IMAGE,
                identity if is_nameless else f"{repository}:{row['Tag']}",
                _parse_size(row["UniqueSize"]),
                _first_reason(
                    (row["Containers"] != "0", "a container uses it"),
                    (identity in users, f"{users.get(identity)} uses it"),
                    (unread is not None, f"{unread}, whose state cannot be read, may use it"),
                    (position < NEWEST and not is_nameless, f"one of the newest {NEWEST}"),
                    (time.time() - _created(row) < GRACE_SECONDS, "less than an hour old"),
                ),
            )


def _untagged(label: str) -> set[str]:
    """Return the short ids of the untagged images with a label. Intermediate layers of other images are left out."""
    filters = ("--filter", "dangling=true", "--filter", f"label={label}")
    return {_short(found) for found in docker("image", "ls", "--quiet", *filters).split()}


def _users_of_images(checkout: Checkout) -> tuple[dict[str, str], str | None]:
    """Return image id -> stack for every stack with its state on this machine: stopped stacks need their images too.

    Also return a stack whose state cannot be read, or None.
    """
    users, unread = {}, None
    for folder in checkout.state_dir.parent.glob(f"*/pulumi/.pulumi/stacks/{PROJECT}"):
        for path in state_files(folder):
            stack = f"stack {path.stem} of {path.parents[4].name}"
            try:
                deployment = read_deployment(path)
            except (OSError, InfraError):
                unread = stack
                continue
            for resource in resources_of(deployment):
                if resource.get("type") == _IMAGE_TYPE:
                    image = str((resource.get("outputs") or {}).get("image_id", ""))
                    users[_short(image)] = stack
    return users, unread


def _contexts(checkout: Checkout, images: Iterable[Item]) -> Iterator[Item]:
    tags = {image.name.rpartition(":")[2] for image in images if image.kept_because}
    loose = 0
    for folder in _newest_first(checkout.cache_dir / "contexts"):
        has_image = folder.name[:16] in tags
        loose += not has_image
        reason = _first_reason(
            (has_image, "the image built from it stays"),
            (loose <= NEWEST, f"one of the newest {NEWEST}"),
            (_age(folder) < GRACE_SECONDS, "less than an hour old"),
        )
        yield Item(CONTEXT, folder.name[:16], _size(folder), reason, folder)
    yield from _drafts(checkout.cache_dir / "contexts", CONTEXT, None)


def _versions(checkout: Checkout) -> Iterator[Item]:
    used = {*_remembered(checkout), *_running()}
    current = {
        versions.pulumi_release(checkout),
        versions.pulumi_build(checkout),
        versions.pulumi_home(checkout),
        *(
            wheelhouse.folder(checkout, architecture, lock)
            for architecture in wheelhouse.MACHINES
            for lock in wheelhouse.LOCKS
        ),
    }
    for name, (kind, lock) in _VERSIONS.items():
        with _lock(checkout, lock) as is_free:
            pass
        for position, folder in enumerate(_newest_first(checkout.cache_dir / name)):
            reason = _first_reason(
                (folder in current, "this checkout's version"),
                (any(path.is_relative_to(folder) for path in used), "a checkout or a process uses it"),
                (position < NEWEST, f"one of the newest {NEWEST}"),
                (_age(folder) < GRACE_SECONDS, "less than an hour old"),
                (not is_free, "one of its kind is being built"),
            )
            yield Item(kind, folder.name, _size(folder), reason, folder=folder, lock=lock)
        yield from _drafts(checkout.cache_dir / name, kind, lock)


def _drafts(folder: Path, kind: str, lock: str | None) -> Iterator[Item]:
    """Yield the drafts that killed runs left."""
    for draft in sorted(folder.glob(".*.draft")):
        if _age(draft) > DRAFT_SECONDS:
            yield Item(f"unfinished {kind}", draft.name, _size(draft), None, folder=draft, lock=lock)


def _remembered(checkout: Checkout) -> Iterator[Path]:
    """Yield the Pulumi CLI of every checkout of this user."""
    for record in checkout.state_dir.parent.glob("*/toolchain.json"):
        yield Path(str(read_object(record).get("pulumi", "")))


def _running() -> Iterator[Path]:
    """Yield the executables of the processes that this user can inspect."""
    for link in Path("/proc").glob("[0-9]*/exe"):
        with suppress(OSError):
            yield link.readlink()


@contextmanager
def _lock(checkout: Checkout, name: str | None) -> Iterator[bool]:
    if name is None:
        yield True
        return
    with store.exclusive_if_free(checkout.cache_dir, name) as is_free:
        yield is_free


def _first_reason(*reasons: tuple[bool, str]) -> str | None:
    return next((reason for holds, reason in reasons if holds), None)


def _newest_first(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    # Another process may have deleted one of them in the meantime.
    return [path for path in sorted(found, key=_age) if path.is_dir()]


def _age(folder: Path) -> float:
    """Return the seconds since a folder last changed, or 0 if it no longer exists.

    Pulumi writes to its home whenever it is used.
    """
    try:
        changed = [folder.stat().st_mtime]
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                changed.append(path.lstat().st_mtime)
    except FileNotFoundError:
        return 0.0
    return time.time() - max(changed)


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).lstat().st_blocks * 512
    return total


def _created(row: dict[str, str]) -> float:
    """Return when an image was built. One without a date counts as built just now, so that it is kept."""
    try:
        return datetime.strptime(row["CreatedAt"][:25], "%Y-%m-%d %H:%M:%S %z").timestamp()
    except ValueError:
        # Go's zero time in the engine's time zone, for example "0000-12-31 19:03:58 -0456 LMT".
        return time.time()


def _parse_size(text: str) -> int:
    """Return a size in bytes, or 0 if the engine does not know it ("N/A")."""
    number = text.rstrip("BkMGT")
    try:
        return round(float(number) * _UNITS[text.removeprefix(number)])
    except (ValueError, KeyError):
        return 0


def _short(image: str) -> str:
    # Docker 20.10 shortens image ids in places where newer versions do not.
    return image.removeprefix("sha256:")[:12]
