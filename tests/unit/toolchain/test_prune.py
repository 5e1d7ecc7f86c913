"""`groundwork prune` deletes old versions, and keeps everything in use."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.docker.engine import DockerError
from infra.spec.checkout import Checkout
from ops import cli
from ops.toolchain import prune, store
from tests.promises import promise

BUSY = "`docker system` failed: Error response from daemon: a disk usage operation is already running"
DAY = 24 * 3600
Folder = Callable[..., Path]
Engine = Callable[..., None]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "main", "1a2b3c", tmp_path / "state" / "main-1a2b3c", tmp_path / "cache")


@pytest.fixture
def folder(checkout: Checkout) -> Folder:
    """Return folder("go", "1.24", days=3), which adds a tool's version to the cache that was last used days ago."""

    def make(kind: str, name: str, *, days: float) -> Path:
        path = checkout.cache_dir / kind / name
        path.mkdir(parents=True)
        (path / "file").write_text("x")
        then = time.time() - days * DAY
        os.utime(path / "file", (then, then))
        os.utime(path, (then, then))
        return path

    return make


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return engine(images, nameless), which sets Docker's images: (repository, tag, id, days, containers) of each.

    `nameless` has the untagged images by their label.
    """

    def answer(
        images: list[tuple[str, str, str, float, int]], nameless: dict[str, str] | None = None
    ) -> None:
        rows = [
            {
                "Repository": repository,
                "Tag": tag,
                "ID": f"sha256:{identity}",
                "CreatedAt": time.strftime(
                    "%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(time.time() - days * DAY)
                ),
                "Containers": str(containers),
                "UniqueSize": "2.5MB",
            }
            for repository, tag, identity, days, containers in images
        ]

        def docker(*arguments: str) -> str:
            if arguments[0] == "system":
                return json.dumps(rows)
            *_, untagged, _, label = arguments
            assert untagged == "dangling=true"
            return (nameless or {}).get(label.removeprefix("label="), "")

        monkeypatch.setattr(prune, "docker", docker)

    answer([])
    return answer


def kept(checkout: Checkout) -> dict[str, str | None]:
    """Return the reason why each thing is kept, by name."""
    return {item.name: item.kept_because for item in prune.find_items(checkout, lambda line: None)}


@promise("`prune` keeps the newest two of each kind")
def test_the_newest_two_images_of_each_kind_are_kept(checkout: Checkout, engine: Engine) -> None:
    engine(
        [("groundwork/postgres", f"t{days}", f"p{days}", days, 0) for days in (9, 1, 5, 7)]
        + [("groundwork/redis", "t8", "r8", 8, 0), ("someone/else", "t9", "e9", 9, 0)]
    )
    found = kept(checkout)
    assert {name for name, why in found.items() if why is None} == {
        "groundwork/postgres:t7",
        "groundwork/postgres:t9",
    }
    assert "someone/else:t9" not in found


@promise("`prune` deletes nothing that a container, a process or a stack uses")
def test_an_image_in_use_is_kept(checkout: Checkout, engine: Engine) -> None:
    engine(
        [("groundwork/access", f"t{days}", f"{days}" * 12, days, int(days == 7)) for days in (1, 2, 6, 7, 8)]
    )
    other = (
        checkout.state_dir.with_name("other-ffffff")
        / "pulumi"
        / ".pulumi"
        / "stacks"
        / "groundwork"
        / "dev.json"
    )
    other.parent.mkdir(parents=True)
    image = {"type": "pulumi-python:dynamic/docker:Image", "outputs": {"image_id": "sha256:" + "8" * 12}}
    other.write_text(json.dumps({"checkpoint": {"latest": {"resources": [image]}}}))
    found = kept(checkout)
    assert found["groundwork/access:t7"] == "a container uses it"
    assert found["groundwork/access:t8"] == "stack dev of other-ffffff uses it"
    assert found["groundwork/access:t6"] is None
    for name, content in (("prod.json", b"damaged"), ("prod.json.gz", gzip.compress(b"{}"))):
        file = other.with_name(name)
        file.write_bytes(content)
        reason = "stack prod of other-ffffff, whose state cannot be read, may use it"
        assert kept(checkout)["groundwork/access:t6"] == reason, name
        file.unlink()


def test_groundworks_untagged_images_are_deleted_after_an_hour(checkout: Checkout, engine: Engine) -> None:
    images = [("old", 1.0, 0), ("new", 0.01, 0), ("stage", 2.0, 0), ("used", 2.0, 1), ("foreign", 9.0, 0)]
    engine(
        [("<none>", "<none>", *image) for image in images],
        nameless={"groundwork.context": "old\nnew\n", "groundwork.stage": "stage\nused\n"},
    )
    assert kept(checkout) == {
        "old": None,
        "new": "less than an hour old",
        "stage": None,
        "used": "a container uses it",
    }


def test_an_image_without_a_date_or_size_is_kept(
    checkout: Checkout, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's own words for them; programs other than docker create such images."""
    engine(
        [("groundwork/redis", f"t{days}", f"r{days}", days, 0) for days in (3, 4, 5, 6)]
        + [("someone/else", "t9", "e9", 9, 0)]
    )
    rows = json.loads(prune.docker("system"))
    for row in (rows[3], rows[4]):
        row.update(CreatedAt="0000-12-31 19:03:58 -0456 LMT", UniqueSize="N/A")
    monkeypatch.setattr(prune, "docker", lambda *words: json.dumps(rows) if words[0] == "system" else "")
    found = {item.name: item for item in prune.find_items(checkout, lambda line: None)}
    assert found["groundwork/redis:t6"].kept_because is not None
    assert found["groundwork/redis:t6"].bytes == 0
    assert [name for name, item in found.items() if item.kept_because is None] == [
        "groundwork/redis:t4",
        "groundwork/redis:t5",
    ]


def test_a_context_is_kept_as_long_as_its_image(checkout: Checkout, engine: Engine, folder: Folder) -> None:
    engine([("groundwork/redis", "a" * 16, "r1", 9, 0)])
    folder("contexts", "a" * 64, days=9)
    for days in (3, 4, 5):
        folder("contexts", f"{days}" * 64, days=days)
    found = kept(checkout)
    assert {name[0] for name, why in found.items() if why is None and len(name) == 16} == {"5"}


@promise("`prune` keeps the newest two of each kind")
@pytest.mark.parametrize("kind", ["pulumi", "pulumi-home", "go", "wheelhouse"])
def test_the_newest_two_versions_are_kept(checkout: Checkout, folder: Folder, kind: str) -> None:
    for days in (1, 2, 3, 4):
        folder(kind, f"v{days}", days=days)
    # Pulumi writes into its home folder, not beside it.
    used = time.time() - DAY / 2
    os.utime(checkout.cache_dir / kind / "v4" / "file", (used, used))
    assert {name for name, why in kept(checkout).items() if why is None} == {"v2", "v3"}


@promise("`prune` deletes nothing that a container, a process or a stack uses")
def test_versions_that_another_checkout_remembers_are_kept(checkout: Checkout, folder: Folder) -> None:
    for days in (1, 2, 3, 4):
        folder("pulumi", f"v{days}", days=days)
    record = checkout.state_dir.with_name("other-ffffff") / "toolchain.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pulumi": str(checkout.cache_dir / "pulumi" / "v4" / "pulumi")}))
    assert {name for name, why in kept(checkout).items() if why is None} == {"v3"}


@pytest.fixture
def process(folder: Folder) -> Iterator[Path]:
    """A running program from the oldest Go in the cache."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    home = folder("go", "v9", days=9)
    program = Path(shutil.copy(sleep, home / "program"))
    with subprocess.Popen([program, "60"]) as running:
        os.utime(program, (0, 0))
        yield home
        running.kill()


@promise("`prune` deletes nothing that a container, a process or a stack uses")
def test_versions_of_running_processes_are_kept(checkout: Checkout, folder: Folder, process: Path) -> None:
    for days in (1, 2, 3):
        folder("go", f"v{days}", days=days)
    found = kept(checkout)
    assert found[process.name] == "a checkout or a process uses it"
    assert found["v3"] is None


def test_nothing_is_deleted_while_a_version_of_its_kind_is_being_built(
    checkout: Checkout, folder: Folder
) -> None:
    for days in (1, 2, 3):
        folder("go", f"v{days}", days=days)
    (doomed,) = (i for i in prune.find_items(checkout, lambda line: None) if i.kept_because is None)
    with store.exclusive(checkout.cache_dir, "go", lambda who: None):
        assert kept(checkout)["v3"] == "one of its kind is being built"
        assert prune.delete(checkout, doomed) == "it is being built"
    assert doomed.folder is not None
    assert doomed.folder.is_dir()


def test_a_draft_of_a_killed_run_is_deleted_after_a_day(checkout: Checkout, folder: Folder) -> None:
    folder("go", ".v1.123.draft", days=2)
    folder("go", ".v2.456.draft", days=0.5)
    (draft,) = prune.find_items(checkout, lambda line: None)
    assert (draft.kind, draft.name) == ("unfinished Go", ".v1.123.draft")
    assert prune.delete(checkout, draft) is None
    assert [path.name for path in (checkout.cache_dir / "go").iterdir()] == [".v2.456.draft"]


def test_only_listed_items_are_deleted(checkout: Checkout, folder: Folder) -> None:
    for days in (1, 2, 3, 4):
        folder("pulumi-home", f"v{days}", days=days)
    for item in prune.find_items(checkout, lambda line: None):
        if item.kept_because is None:
            assert item.bytes > 0
            assert prune.delete(checkout, item) is None
    assert sorted(path.name for path in (checkout.cache_dir / "pulumi-home").iterdir()) == ["v1", "v2"]


def test_without_an_engine_contexts_are_kept_and_versions_are_checked(
    checkout: Checkout, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> str:
        raise DockerError("docker is not on PATH")

    monkeypatch.setattr(prune, "docker", refuse)
    for days in (1, 2, 3):
        folder("contexts", f"{days}" * 64, days=days)
        folder("go", f"v{days}", days=days)
    said: list[str] = []
    found = {item.name: item.kept_because for item in prune.find_items(checkout, said.append)}
    assert said == ["images and build contexts are left out: docker is not on PATH"]
    assert found["v3"] is None
    assert set(found) == {"v1", "v2", "v3"}


def test_disk_usage_is_requested_again_while_the_engine_answers_another(
    checkout: Checkout, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine([("groundwork/postgres", "t9", "p9", 9, 0)])
    answer, refusals = prune.docker, iter(range(3))

    def refuse_first(*arguments: str) -> str:
        if arguments[0] == "system" and next(refusals, None) is not None:
            raise DockerError(BUSY)
        return answer(*arguments)

    monkeypatch.setattr(prune, "docker", refuse_first)
    monkeypatch.setattr(prune, "_DISK_USAGE_RETRY_SECONDS", 0)
    assert "groundwork/postgres:t9" in kept(checkout)
    assert next(refusals, None) is None


def test_images_are_left_out_if_the_engine_stays_busy(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: str) -> str:
        raise DockerError(BUSY)

    monkeypatch.setattr(prune, "docker", refuse)
    monkeypatch.setattr(prune, "_DISK_USAGE_SECONDS", -1)
    said: list[str] = []
    prune.find_items(checkout, said.append)
    assert said == [f"images and build contexts are left out: {BUSY}"]


def test_a_link_is_deleted_and_not_its_target(checkout: Checkout, folder: Folder, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    link = folder("go", "v1", days=9).with_name("v0")
    link.symlink_to(target)
    item = prune.Item("Go", "v0", 0, None, link)
    assert prune.delete(checkout, item) is None
    assert [path.name for path in link.parent.iterdir()] == ["v1"]
    assert (target / "file").exists()


def test_what_cannot_be_removed_is_not_called_deleted(
    checkout: Checkout, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = folder("go", "v1", days=9)
    monkeypatch.setattr(prune.store, "discard", lambda folder: None)
    reason = prune.delete(checkout, prune.Item("Go", "v1", 0, None, old))
    (left,) = old.parent.iterdir()
    assert reason == f"a part of it is left in {left}; remove that"


def test_a_file_that_vanishes_does_not_stop_the_list(
    checkout: Checkout, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder("go", "v1", days=1) / "gone"
    lstat = Path.lstat

    def vanish(path: Path) -> os.stat_result:
        if path == gone:
            gone.unlink()
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    gone.write_text("x")
    assert prune._age(gone.parent) < DAY
    assert not gone.exists()
    gone.write_text("x")
    assert prune._size(gone.parent) > 0
    assert not gone.exists()


def test_a_folder_that_vanishes_is_not_one_of_the_newest(
    checkout: Checkout, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days in (1, 2, 3):
        folder("go", f"v{days}", days=days)
    age = prune._age

    def vanish(path: Path) -> float:
        if path.name == "v1":
            shutil.rmtree(path, ignore_errors=True)
        return age(path)

    monkeypatch.setattr(prune, "_age", vanish)
    assert kept(checkout) == {"v2": "one of the newest 2", "v3": "one of the newest 2"}


@pytest.fixture
def undeletable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three items: one that is kept, one that is deleted, and one that cannot be deleted."""
    items = [prune.Item("image", name, 10**6, why) for name, why in (("a", "new"), ("b", None), ("c", None))]
    monkeypatch.setattr(prune, "find_items", lambda checkout, say: items)
    monkeypatch.setattr(prune, "delete", lambda checkout, item: "it is in use" if item.name == "c" else None)


@pytest.mark.usefixtures("undeletable")
def test_an_item_that_cannot_be_deleted_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prune", "--yes"])
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert [line.rpartition(" MB  ")[2] for line in out.splitlines()[:3]] == [
        "kept: new",
        "deleted",
        "not deleted: it is in use",
    ]
    assert out.splitlines()[3] == "1.0 MB freed"
    assert "image c: it is in use" in err


@pytest.mark.usefixtures("undeletable")
def test_an_item_that_cannot_be_deleted_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prune", "--yes", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert (said["bytes"], said["deleted"]) == (10**6, False)
    assert [(each["deleted"], each["notDeletedBecause"]) for each in said["items"]] == [
        (False, None),
        (True, None),
        (False, "it is in use"),
    ]
