"""Several processes that load: their results, and how they end. In dry runs, which need no server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit
from ops.gharchive.archive import BATCH_LINES
from tests.cases import in_case
from tests.promises import promise

SECONDS = 60.0


def line(number: int) -> bytes:
    event = {
        "id": str(number),
        "type": "PushEvent",
        "actor": {"id": 1, "login": "a"},
        "payload": {},
        "created_at": "2025-01-01T15:00:00Z",
    }
    return json.dumps(event).encode() + b"\n"


def lines(first: int, count: int) -> bytes:
    return b"".join(map(line, range(first, first + count)))


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as over:
        main(["import", "gharchive", "--dry-run", *arguments])
    out, err = capfd.readouterr()
    return int(over.value.code or 0), out, err


def test_rejected_lines_and_counts_are_those_of_one_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("first.json", "second.json")]
    files[0].write_bytes(b"{early\n" + lines(1, 2 * BATCH_LINES) + b"{late\n")
    files[1].write_bytes(lines(9000, BATCH_LINES) + b"\n{second\n" + line(1))
    said = []
    for jobs in ("1", "3"):
        code, out, _ = run(capfd, *map(str, files), "--jobs", jobs, "--json")
        assert code == Exit.FINE
        report = json.loads(out)
        for file in report["files"]:
            del file["seconds"]
        rejects = [Path(f"{file}.rejects.jsonl").read_text() for file in files]
        said.append((report, rejects))
    assert said[0] == said[1]
    assert [json.loads(each)["line"] for each in said[1][1][0].splitlines()] == [1, 2 * BATCH_LINES + 2]


def test_a_file_without_events_ends_the_import_before_the_next_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_bytes(b"<html>\n" * (2 * BATCH_LINES))
    good.write_bytes(line(1))
    code, out, err = run(capfd, str(bad), str(good), "--jobs", "2")
    assert (code, out) == (Exit.ERROR, "")
    assert "XML or HTML page" in err


@pytest.mark.parametrize("jobs", ["0", "17", "x", ""])
def test_a_number_of_jobs_out_of_range_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], jobs: str
) -> None:
    file = tmp_path / "hour.json"
    file.write_bytes(line(1))
    code, _, err = run(capfd, str(file), "--jobs", jobs)
    assert code == Exit.USAGE
    assert "--jobs" in err


@contextmanager
def waiting_import() -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Start an import whose two workers have parsed batches and that waits for more lines; yield it and their pids."""
    with subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "import", "gharchive", "--dry-run", "--jobs", "2", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdin is not None
        # The third batch is sent when a worker has done its first one. Less than the fourth fits into the pipe.
        process.stdin.write(lines(1, 3 * BATCH_LINES + 1))
        process.stdin.flush()
        found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(found) == 2
        try:
            yield process, [int(pid) for pid in found]
        finally:
            process.kill()


def has_ended(pid: int) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        import select

        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(SECONDS * 1000))
    finally:
        os.close(descriptor)


@promise("a worker that dies ends the import with one line")
def test_a_worker_that_dies_ends_the_import_with_one_line() -> None:
    with waiting_import() as (process, workers):
        os.kill(workers[0], signal.SIGKILL)
        _, err = process.communicate(lines(10_000, 2 * BATCH_LINES), timeout=SECONDS)
        assert process.returncode == Exit.ERROR
        last = err.decode().splitlines()[-1]
        assert last.startswith("groundwork: a process of the import was ended by signal 9; rerun the command")
        assert all(map(has_ended, workers))


def test_workers_end_with_the_import() -> None:
    for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
        with in_case(number):
            with waiting_import() as (process, workers):
                process.send_signal(number)
                _, err = process.communicate(timeout=SECONDS)
                assert process.returncode != Exit.FINE
                assert b"Traceback" not in err
                assert all(map(has_ended, workers))
