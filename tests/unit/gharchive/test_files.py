"""Files that are not GitHub Archive's JSON lines: one line with the reason, and exit code 1."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit
from ops.gharchive.archive import ArchiveImport
from ops.gharchive.batch import InlineRunner
from ops.gharchive.lines import Line
from ops.gharchive.rejects import RejectFile
from tests.cases import in_case
from tests.promises import promise

EVENT = {
    "id": "1",
    "type": "PushEvent",
    "actor": {"id": 1, "login": "a"},
    "repo": {"id": 1, "name": "a/b"},
    "payload": {},
    "created_at": "2025-01-01T15:00:00Z",
}
LINES = b"".join(json.dumps(EVENT | {"id": str(n)}).encode() + b"\n" for n in range(1, 4))
OLD = {
    "repository": {"id": 1, "name": "x"},
    "actor": "y",
    "actor_attributes": {"login": "y"},
    "type": "WatchEvent",
    "created_at": "2012/03/10 12:00:00 -0800",
}


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("events.json", LINES)
    return packed.getvalue()


def load(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as over:
        main(["import", "gharchive", "--dry-run", *arguments])
    out, err = capfd.readouterr()
    return int(over.value.code or 0), out, err


@promise("a file without an event is refused with the reason")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty", id="0 bytes"),
        pytest.param(gzip.compress(b""), "is empty", id="gzip of 0 bytes"),
        pytest.param(b"\n \n", "no event in 2 lines: all of them are blank", id="blank lines"),
        pytest.param(b"\x1f", "line 1 was rejected: invalid JSON", id="1 byte"),
        pytest.param(b"<?xml version='1.0'?>\n<Error>NoSuchKey</Error>", "XML or HTML page", id="error page"),
        pytest.param(gzip.compress(b"<html>"), "XML or HTML page", id="compressed error page"),
        pytest.param(gzip.compress(gzip.compress(LINES)), "compressed with gzip twice", id="gzip twice"),
        pytest.param(bz2.compress(LINES), "compressed with bzip2", id="bzip2"),
        pytest.param(lzma.compress(LINES), "compressed with xz", id="xz"),
        pytest.param(b"\x28\xb5\x2f\xfd\x04", "compressed with zstd", id="zstd"),
        pytest.param(zipped(), "is a zip archive", id="zip"),
        pytest.param(LINES.decode().encode("utf-16"), "is UTF-16", id="UTF-16"),
        pytest.param(LINES.decode().encode("utf-16-be"), "is UTF-16", id="UTF-16 without a mark"),
        pytest.param(json.dumps([EVENT, EVENT]).encode(), "it is a JSON array", id="JSON array"),
        pytest.param(
            json.dumps([EVENT], indent=1).encode(), "it is a JSON array", id="JSON array in many lines"
        ),
        pytest.param(json.dumps(OLD).encode(), "format used before 2015", id="format of 2012"),
        pytest.param(b'{"id": "1"}\n', "line 1 was rejected: actor: is missing", id="something else"),
    ],
)
def test_a_file_without_an_event_is_exit_code_1_and_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file = tmp_path / "hour.json.gz"
    file.write_bytes(content)
    code, out, err = load(capfd, str(file))
    assert (code, out) == (Exit.ERROR, "")
    (line,) = err.splitlines()
    assert line.startswith(f"groundwork: {file}")
    assert said in line


@promise("a file without an event is refused with the reason", control=True)
def test_one_event_among_bad_lines_is_enough(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hour.json"
    file.write_bytes(b"<html>\n" + LINES)
    code, out, _ = load(capfd, str(file))
    assert code == Exit.FINE
    assert "4 lines, 3 would be loaded or exist already, 1 rejected" in out


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_pipe_is_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = LINES + b"<html>\n" + LINES
    reader, writer = os.pipe()
    try:
        os.write(writer, gzip.compress(content) if is_packed else content)
        os.close(writer)
        code, out, _ = load(capfd, f"/dev/fd/{reader}")
    finally:
        os.close(reader)
    assert code == Exit.FINE
    assert "7 lines, 6 would be loaded or exist already, 1 rejected" in out
    assert (tmp_path / f"{reader}.rejects.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_byte_order_mark_costs_no_event(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], is_packed: bool
) -> None:
    file = tmp_path / "hour.json"
    content = codecs.BOM_UTF8 + LINES
    file.write_bytes(gzip.compress(content) if is_packed else content)
    code, out, _ = load(capfd, str(file))
    assert code == Exit.FINE
    assert "3 lines, 3 would be loaded or exist already, 0 rejected" in out


def test_a_missing_second_file_is_found_before_the_first_is_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first.json"
    first.write_bytes(LINES)
    for second, code in ((tmp_path / "none.json", Exit.USAGE), (tmp_path, Exit.USAGE)):
        assert load(capfd, str(first), str(second))[:2] == (code, "")
    packed = tmp_path / "second.json.bz2"
    packed.write_bytes(bz2.compress(LINES))
    assert load(capfd, str(first), str(packed))[:2] == (Exit.ERROR, "")


def test_json_reports_what_was_done_before_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (tmp_path / f"{n}.json.gz" for n in range(3))
    first.write_bytes(LINES)
    second.write_bytes(gzip.compress(LINES * 1000)[:-20])
    third.write_bytes(LINES)
    code, out, err = load(capfd, "--json", str(first), str(second), str(third))
    report = json.loads(out)
    assert code == Exit.ERROR
    assert [file["file"] for file in report["files"]] == [str(first), str(second)]
    assert report["files"][0]["loaded"] == 3
    assert report["files"][1]["loaded"] == report["files"][1]["lines"] > 0
    assert "damaged after line" in report["error"]
    assert report["error"] in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_json_names_the_signal_that_stopped_an_import(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    file = tmp_path / "hour.json"
    file.write_bytes(LINES)
    monkeypatch.setattr(ArchiveImport, "run", lambda self: signal.raise_signal(number))
    code, out, _ = load(capfd, "--json", str(file))
    assert (code, json.loads(out)["error"]) == (128 + number, f"interrupted by {number.name}")


def test_inputs_that_would_share_a_reject_file_are_refused_before_one_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        os.mkfifo(tmp_path / folder / "hour.json")
    (tmp_path / "c.json").write_bytes(LINES)
    kept = tmp_path / "c.json.rejects.jsonl"
    kept.write_text("of an earlier run")
    for first, second in (
        ("a/hour.json", "b/hour.json"),
        ("c.json", "./c.json"),
        ("c.json", "c.json"),
        ("-", "-"),
    ):
        with in_case(f"{first} {second}"):
            code, _, err = load(capfd, first, second)
            assert code == Exit.USAGE
            assert f"rejected lines of {first} and {second} would be in the same file" in err
    assert kept.exists()


@pytest.mark.parametrize("content", [b"", zipped(), b"<html>", None], ids=["empty", "zip", "HTML", "missing"])
def test_json_is_one_object_for_a_file_that_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = tmp_path / "hour.json"
    if content is not None:
        file.write_bytes(content)
    code, out, err = load(capfd, "--json", str(file))
    report = json.loads(out)
    assert code == (Exit.USAGE if content is None else Exit.ERROR)
    assert not any("loaded" in each and each["loaded"] for each in report["files"])
    assert report["error"] in err
    assert str(file) in report["error"]


@pytest.mark.parametrize("place", ["none/rejects", "hour.json/rejects", "folder", "pipe"])
def test_a_reject_file_that_cannot_be_written_is_refused_before_any_line_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    """Also if no line is rejected. What is in its place is not deleted."""
    file, target = tmp_path / "hour.json", tmp_path / place
    file.write_bytes(LINES)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    existed = target.exists()
    code, out, err = load(capfd, str(file), "--rejects", str(target))
    (line,) = err.splitlines()
    assert (code, out) == (Exit.USAGE, "")
    assert line.startswith(f"groundwork: cannot write rejected lines to {target}: ")
    assert target.exists() == existed


def test_an_earlier_reject_file_may_be_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, target = tmp_path / "hour.json", tmp_path / "rejects"
    file.write_bytes(LINES + b"{\n")
    target.write_text("earlier")
    assert load(capfd, str(file), "--rejects", str(target))[0] == Exit.FINE
    assert json.loads(target.read_text())["line"] == 4


def test_the_documented_event_is_loaded_and_only_its_required_parts_are_required(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "import.md").read_text(encoding="utf-8")
    event = json.loads(page.partition("```json")[2].partition("```")[0])
    refused = set()
    for part in (None, *event):
        file = tmp_path / "hour.json"
        file.write_text(json.dumps({name: value for name, value in event.items() if name != part}))
        if load(capfd, str(file))[0] != Exit.FINE:
            refused.add(part)
    required = {
        name
        for line in page.splitlines()
        if "| yes" in line
        for name in event
        if f"`{name}`" in line.partition("| yes")[0]
    }
    assert refused == required == {"id", "type", "created_at", "actor"}


def test_counts_are_complete_if_loading_fails(tmp_path: Path) -> None:
    class Lines:
        name = "hour"

        def __iter__(self) -> Iterator[Line]:
            yield from (Line(n, raw) for n, raw in enumerate(LINES.splitlines(), 1))
            raise KeyboardInterrupt

    archive = ArchiveImport(
        Lines(), RejectFile(tmp_path / "x"), InlineRunner(None), lambda tally: None, batch_lines=1
    )  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        archive.run()
    assert (archive.tally.lines, archive.tally.loaded) == (3, 3)
