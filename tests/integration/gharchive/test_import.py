"""The import of GitHub Archive with a real server and made-up files in its format."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ops.gharchive.lines import MAX_LINE_BYTES
from tests import forked_command
from tests.conftest import Database
from tests.promises import promise

TABLES = ("users", "organizations", "repositories", "activities")


def _event(n: int, **changes: Any) -> dict[str, Any]:
    made = {
        "id": str(n),
        "type": ("PushEvent", "WatchEvent", "ForkEvent")[n % 3],
        "actor": {"id": n % 17 + 1, "login": f"user{n % 17 + 1}"},
        "repo": {"id": n % 11 + 1, "name": f"o/r{n % 11 + 1}"},
        "payload": {"n": n, "text": 'quote " \\ \t \u2028'},
        "public": True,
        "created_at": f"2015-01-01T15:{n // 60 % 60:02}:{n % 60:02}Z",
    }
    if n % 2:
        made["org"] = {"id": n % 3 + 1, "login": f"org{n % 3 + 1}"}
    return made | changes


def _lines(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def _run(database: Database, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    url = {"DATABASE_URL": database.url("app")}
    return forked_command.run("import", "gharchive", *arguments, environment=url, stdin=stdin)


def _error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line on stderr besides the database and, of an import of some seconds, the progress of a file."""
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("database: ", "/"))]
    return line


def _counts(database: Database) -> list[int]:
    return [int(n) for n in database.psql(_for_each_table("SELECT count(*) FROM groundwork.{}")).split()]


def _state(database: Database) -> str:
    return database.psql(_for_each_table("SELECT * FROM groundwork.{} ORDER BY id"))


def _for_each_table(query: str) -> str:
    return ";".join(query.format(table) for table in TABLES)


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    file = tmp_path / "2015-01-01-15.json"
    file.write_bytes(_lines(_event(n) for n in range(1, 5001)))
    return file


@promise("an import stores each event once")
def test_an_hour_is_loaded_and_a_second_time_adds_and_changes_nothing(database: Database, hour: Path) -> None:
    done = _run(database, str(hour))
    assert done.returncode == 0, done.stderr
    assert "5000 lines, 5000 loaded, 0 existed already, 0 rejected" in done.stdout
    assert _counts(database) == [17, 3, 11, 5000]
    before = _state(database)
    again = _run(database, str(hour))
    assert "0 loaded, 5000 existed already" in again.stdout
    assert _state(database) == before
    assert not list(hour.parent.glob("*.rejects.jsonl"))
    row = json.loads(
        database.psql("SELECT row_to_json(a) FROM groundwork.activities a WHERE github_event_id = 7")
    )
    assert row["data"] == {"payload": {"n": 7, "text": 'quote " \\ \t \u2028'}, "public": True}
    assert row["timestamp"] == "2015-01-01T15:00:07+00:00"


def test_gzip_and_standard_input_are_the_same(database: Database, hour: Path, tmp_path: Path) -> None:
    packed = tmp_path / "hour.json.gz"
    packed.write_bytes(gzip.compress(hour.read_bytes()))
    assert "5000 loaded" in _run(database, str(packed)).stdout
    assert "5000 existed already" in _run(database, "-", stdin=packed.read_bytes()).stdout
    assert "5000 existed already" in _run(database, "-", stdin=hour.read_bytes()).stdout


@promise("bad lines are skipped and recorded with their reason")
def test_bad_lines_are_left_out_with_their_number_and_reason(database: Database, tmp_path: Path) -> None:
    bad = {
        3: b"{broken\n",
        10: json.dumps(_event(10, payload={"text": "a\0b"})).encode() + b"\n",
        2500: json.dumps(_event(2500, created_at="2015-01-01T15:00:00")).encode() + b"\n",
        2501: b'{"pad": "' + b"x" * MAX_LINE_BYTES + b'"}\n',
        3000: json.dumps(_event(3000, actor={"id": 2**63, "login": "x"})).encode() + b"\n",
    }
    file = tmp_path / "bad.json"
    file.write_bytes(b"".join(bad.get(n) or _lines([_event(n)]) for n in range(1, 3001)))
    done = _run(database, str(file))
    assert done.returncode == 0
    assert "3000 lines, 2995 loaded, 0 existed already, 5 rejected" in done.stdout
    assert _counts(database)[3] == 2995
    rejects = [json.loads(line) for line in (tmp_path / "bad.json.rejects.jsonl").read_text().splitlines()]
    assert [reject["line"] for reject in rejects] == sorted(bad)
    for reject, reason in zip(
        rejects, ("invalid JSON", "NUL", "no time zone", "longer than", "actor.id"), strict=True
    ):
        assert reason in reject["reason"]
    assert rejects[0]["raw"] == "{broken"


def test_json_is_one_object(database: Database, hour: Path) -> None:
    hour.write_bytes(hour.read_bytes() + b"{broken\n")
    done = _run(database, str(hour), "--json")
    said = json.loads(done.stdout)
    assert said["dryRun"] is False
    (file,) = said["files"]
    assert file.pop("seconds") > 0
    rejects = f"{hour}.rejects.jsonl"
    assert file == {
        "file": str(hour), "lines": 5001, "loaded": 5000, "known": 0, "rejected": 1, "rejects": rejects,
    }  # fmt: skip


def test_rejects_never_overwrite_an_input_file(database: Database, hour: Path) -> None:
    rejects = hour.with_name(f"{hour.name}.rejects.jsonl")
    rejects.write_bytes(hour.read_bytes())
    before = hour.read_bytes()
    for arguments in (
        ["--rejects", str(hour), str(hour)],
        # The second file has the name of the first one's rejects.
        [str(hour), str(rejects)],
        [str(rejects), str(hour)],
    ):
        done = _run(database, *arguments)
        assert done.returncode == 2, arguments
        assert "would overwrite the input file" in done.stderr
    assert hour.read_bytes() == rejects.read_bytes() == before


def test_rejects_that_cannot_be_written_are_one_line(database: Database, hour: Path, tmp_path: Path) -> None:
    """As the path of the rejects: a folder, and a file in a missing folder."""
    hour.write_bytes(b"{broken\n")
    for target in (tmp_path, tmp_path / "none" / "x"):
        done = _run(database, str(hour), "--rejects", str(target))
        assert done.returncode in (1, 2), target
        assert _error(done).startswith("groundwork: cannot write rejected lines to"), target


def test_a_database_that_is_away_is_one_line_and_unreachable(database: Database, hour: Path) -> None:
    done = _run(database, str(hour), "--url", "postgresql://app_a:secret@localhost:1/groundwork")
    assert done.returncode == 6
    line = _error(done)
    assert "the database cannot be reached" in line
    assert "secret" not in line


def test_a_row_that_only_the_server_refuses_is_found_by_halving(database: Database, tmp_path: Path) -> None:
    database.psql(
        "ALTER TABLE groundwork.activities ADD CONSTRAINT no_thirteen CHECK (github_event_id <> 13)"
    )
    file = tmp_path / "one.json"
    file.write_bytes(_lines(_event(n) for n in range(1, 101)))
    done = _run(database, str(file))
    assert "100 lines, 99 loaded, 0 existed already, 1 rejected" in done.stdout
    (reject,) = (tmp_path / "one.json.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["line"] == 13
    assert "no_thirteen" in json.loads(reject)["reason"]


def test_months_that_are_missing_get_their_partition(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "months.json"
    times = [f"20{year:02}-{month:02}-01T00:00:00Z" for year in (12, 13) for month in (1, 12)]
    file.write_bytes(_lines(_event(n, created_at=at) for n, at in enumerate(times, start=1)))
    assert "4 loaded" in _run(database, str(file)).stdout
    assert database.psql("SELECT to_regclass('groundwork.activities_2013_12')").strip() != ""


@promise("older files do not restore old names")
def test_a_newer_event_renames_and_an_older_one_does_not(database: Database, tmp_path: Path) -> None:
    def load(name: str, event: dict[str, Any]) -> None:
        file = tmp_path / name
        file.write_bytes(_lines([event]))
        assert _run(database, str(file)).returncode == 0

    def names() -> list[str]:
        return database.psql(
            "SELECT username FROM groundwork.users UNION ALL SELECT name FROM groundwork.repositories"
        ).split()

    def event(n: int, hour: int, name: str) -> dict[str, Any]:
        return _event(
            n, actor={"id": 1, "login": name}, repo={"id": 1, "name": f"{name}/r"},
            created_at=f"2015-01-01T{hour:02}:00:00Z",
        )  # fmt: skip

    load("first", event(1, 10, "first"))
    load("second", event(2, 12, "second"))
    assert names() == ["second", "second/r"]
    load("older", event(3, 11, "older"))
    assert names() == ["second", "second/r"]
    load("first", event(1, 10, "first"))
    assert names() == ["second", "second/r"]


@promise("an import stores each event once")
def test_imports_of_one_file_at_once_store_each_event_once(database: Database, hour: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "import", "gharchive", str(hour), "--jobs", jobs],
            env=os.environ | {"DATABASE_URL": database.url("app")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for jobs in ("1", "2", "2")
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert _counts(database) == [17, 3, 11, 5000]
    assert sum(int(text.split(" lines, ")[1].split()[0]) for text in printed) == 5000


@promise("a killed import leaves whole batches, and the same command completes it")
def test_a_killed_import_leaves_whole_batches_and_the_next_run_completes_it(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "long.json"
    file.write_bytes(_lines(_event(n) for n in range(1, 40_001)))
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.cli", "import", "gharchive", str(file), "--jobs", "2"],
        env=os.environ | {"DATABASE_URL": database.url("app")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while _counts(database)[3] == 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # A worker may still be storing the last batch.
    database.psql(
        "DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE usename LIKE 'app%' AND datname ="
        " current_database()) LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$"
    )
    partial = _counts(database)[3]
    assert 0 < partial < 40_000
    assert partial % 2000 == 0
    # The first ones, although two processes load.
    assert int(database.psql("SELECT max(github_event_id) FROM groundwork.activities")) == partial
    done = _run(database, str(file))
    assert f"{40_000 - partial} loaded, {partial} existed already" in done.stdout
    assert _counts(database)[3] == 40_000


def test_a_truncated_gzip_is_reported_and_its_beginning_is_loaded(
    database: Database, hour: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "cut.json.gz"
    packed.write_bytes(gzip.compress(hour.read_bytes())[:-2000])
    done = _run(database, str(packed))
    assert done.returncode == 1
    line = _error(done)
    assert "cut.json.gz: damaged after line" in line
    number = int(line.split("after line ")[1].split()[0])
    assert _counts(database)[3] == number > 1000
    assert "existed already" in _run(database, str(hour)).stdout
    assert _counts(database)[3] == 5000


def test_a_dry_run_stores_nothing(database: Database, hour: Path) -> None:
    done = _run(database, str(hour), "--dry-run")
    assert "5000 would be loaded or exist already, 0 rejected" in done.stdout
    assert _counts(database) == [0, 0, 0, 0]


def test_a_file_that_cannot_be_read_is_one_line(database: Database, tmp_path: Path) -> None:
    for name in ("none.json", "."):
        done = _run(database, str(tmp_path / name))
        assert (done.returncode, "cannot read " in _error(done)) == (2, True), name


@promise("the memory of an import stays under 150 MB")
def test_memory_stays_within_its_limit(database: Database, tmp_path: Path) -> None:
    """80 MB of lines of 20 kB, and one of the maximum length, in less than 150 MB of memory."""
    file = tmp_path / "large.json.gz"
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for n in range(1, 4001):
            packed.write(
                _lines(
                    [_event(n, payload={"text": f"{n}" * 4000 if n % 1000 else "y" * (MAX_LINE_BYTES - 500)})]
                )
            )
    measured = (
        "import pathlib, sys\n"
        "from ops.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        # Not ru_maxrss, which a child inherits from the process that started it.
        "finally:\n    print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", measured, "import", "gharchive", str(file)],
        env=os.environ | {"DATABASE_URL": database.url("app")},
        capture_output=True,
        check=True,
    )
    assert b"4000 loaded" in done.stdout, done.stdout
    assert int(done.stderr.decode().split("VmHWM:")[1].split()[0]) < 150 * 1024


@promise("any number of jobs stores the same rows")
def test_three_jobs_store_the_same_rows_and_reject_the_same_lines(database: Database, tmp_path: Path) -> None:
    """Users and repositories change their names, some events are in two files, and the server refuses one."""
    database.psql("ALTER TABLE groundwork.activities ADD CONSTRAINT no_bad CHECK (github_event_id <> 2500)")
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    for file, numbers in zip(files, (range(1, 6001), range(5500, 9001)), strict=True):
        file.write_bytes(
            _lines(
                _event(
                    n,
                    actor={"id": n % 17 + 1, "login": f"user{n % 17 + 1}-{n // 700}"},
                    repo={"id": n % 11 + 1, "name": f"owner{n // 1500}/r{n % 11 + 1}"},
                    created_at=f"2015-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z",
                )
                for n in numbers
            )
        )
    loaded = []
    for jobs in ("1", "3"):
        database.psql(f"TRUNCATE {', '.join(f'groundwork.{table}' for table in TABLES)} CASCADE")
        done = _run(database, *map(str, files), "--jobs", jobs, "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)["files"]
        rejects = (tmp_path / "first.json.rejects.jsonl").read_text()
        loaded.append(([(file["loaded"], file["known"]) for file in report], rejects, _imported(database)))
    assert loaded[0] == loaded[1]
    assert loaded[1][0] == [(5999, 0), (3000, 501)]


def _imported(database: Database) -> str:
    """Return all that an import determines, without our own ids and times."""
    queries = (
        "SELECT github_id, username FROM groundwork.users ORDER BY 1",
        "SELECT github_id, name FROM groundwork.organizations ORDER BY 1",
        "SELECT r.github_id, r.name, o.github_id FROM groundwork.repositories AS r"
        " LEFT JOIN groundwork.organizations AS o ON o.id = r.org_id ORDER BY 1",
        "SELECT github_event_id, timestamp, type, u.github_id, r.github_id, data FROM groundwork.activities"
        " JOIN groundwork.users AS u ON u.id = user_id"
        " LEFT JOIN groundwork.repositories AS r ON r.id = repo_id ORDER BY 1",
    )
    return database.psql(";".join(queries))
