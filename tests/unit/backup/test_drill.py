"""What a drill does with leftover containers of other commands, and how long it waits. No real containers are used."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.docker import engine
from infra.docker.members import NoPrimary
from infra.spec.postgres_cluster import MEMBERS
from ops.backup import checks, drill, restore, servers, take_backup, workbench
from ops.backup import site as site_module
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.evidence import CheckFailed
from ops.backup.markers import Marker
from ops.backup.site import BackupSite
from ops.backup.wal import Segment
from ops.cli import main
from ops.errors import Exit
from tests.cases import in_case

PREFIX = "gw-1a2b3c-dev"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of Docker's containers, which commands create and remove."""
    found: set[str] = set()

    def docker(*arguments: str, **options: Any) -> str:
        match arguments:
            case ("run", *rest):
                name = rest[rest.index("--name") + 1]
                assert name not in found
                found.add(name)
            case ("rm", *_, name):
                found.remove(name)
            case _:
                raise AssertionError(arguments)
        return ""

    def inspect(kind: str, name: str) -> list[dict[str, Any]]:
        return [{"Id": name, "Config": {"Labels": {}}}] if kind == "container" and name in found else []

    for module in (workbench, engine):
        monkeypatch.setattr(module, "docker", docker)
        monkeypatch.setattr(module, "inspect", inspect)
    return found


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> BackupSite:
    monkeypatch.setattr(site_module, "primary_container", lambda container: container)
    names = ("image", "data", "config", "repository", "postgres", "access")
    return BackupSite("dev", PREFIX, *names, lock_file=Path("/no/such/lock"))


def test_a_drill_removes_leftovers_of_a_killed_drill(there: set[str], site: BackupSite) -> None:
    there |= {f"{PREFIX}-drill", f"{PREFIX}-drill-relay"}
    with drill._throwaway(site) as bench:
        assert there == {bench.name}
    assert there == set()


def test_a_drill_keeps_the_workbench_of_a_killed_restore(there: set[str], site: BackupSite) -> None:
    """`adopt` detects an unfinished restore by its workbench, also if a drill ran in between."""
    there.add(f"{PREFIX}-restore")
    with drill._throwaway(site):
        pass
    assert there == {f"{PREFIX}-restore"}


def test_two_commands_can_read_the_repository_of_a_stopped_stack_at_once(
    there: set[str], site: BackupSite
) -> None:
    with restore._readers_bench(site) as first:
        with restore._readers_bench(site) as second:
            assert there == {first.name, second.name}
        assert there == {first.name}
    assert there == set()


@pytest.mark.parametrize(("free_mb", "fits"), [(99, False), (100, True)])
def test_files_that_do_not_fit_are_not_restored(free_mb: int, fits: bool) -> None:
    bench: Any = SimpleNamespace(sh=lambda *_: f"{free_mb * 1024**2}\n")
    with nullcontext() if fits else pytest.raises(BackupError, match=r"need 100 MB.*only 99 MB are free"):
        workbench.require_room(bench, 100 * 1024**2)


@pytest.mark.parametrize(("max_rpo", "seconds"), [(60.0, 90), (300.0, 300)])
def test_a_drill_waits_at_least_90_s_and_as_long_as_max_rpo_allows(
    monkeypatch: pytest.MonkeyPatch, site: BackupSite, max_rpo: float, seconds: int
) -> None:
    waits: list[tuple[str, ...]] = []

    def sh(script: str, *arguments: str) -> str:
        waits.append(arguments)
        return ""

    monkeypatch.setattr(take_backup, "archiver", lambda _: SimpleNamespace(waiting=2))
    bench: Any = SimpleNamespace(sh=sh)
    marker = Marker(1, datetime.now(UTC), Segment(1, 1))
    options = drill.DrillOptions(Path("migrations"), {}, max_rpo_seconds=max_rpo)
    with pytest.raises(CheckFailed, match=f"after {seconds} s; 2 WAL files are waiting"):
        drill._wait_archived(site, bench, marker, options)
    assert waits == [(str(marker.segment), str(seconds))]


def test_a_drill_looks_for_a_primary_only_while_a_server_runs(
    monkeypatch: pytest.MonkeyPatch, site: BackupSite
) -> None:
    cases: list[tuple[str, tuple[str, ...], dict[str, str], bool]] = [
        ("a stopped cluster", MEMBERS[1:], dict.fromkeys(MEMBERS, "stopped"), False),
        ("a cluster without containers", MEMBERS[1:], {}, False),
        ("a frozen cluster", MEMBERS[1:], dict.fromkeys(MEMBERS, "frozen"), False),
        ("a replica runs", MEMBERS[1:], {"postgres": "stopped", "postgres-2": "running"}, True),
        ("a stopped single server", (), {"postgres": "stopped"}, False),
    ]

    def no_primary(_container: str) -> str:
        raise NoPrimary("no member is the primary")

    monkeypatch.setattr(site_module, "primary_container", no_primary)
    for name, replicas, states, is_awaited in cases:
        with in_case(name):

            def inspect(_kind: str, *names: str, states: dict[str, str] = states) -> list[dict[str, Any]]:
                there = ((each, states.get(each.removeprefix(f"{PREFIX}-"))) for each in names)
                return [
                    {
                        "Name": f"/{each}",
                        "State": {"Running": state != "stopped", "Paused": state == "frozen"},
                    }
                    for each, state in there
                    if state
                ]

            for module in (servers, site_module):
                monkeypatch.setattr(module, "inspect", inspect)
            looked = replace(site, postgres=f"{PREFIX}-postgres", replicas=replicas)
            said: list[str] = []
            if is_awaited:
                with pytest.raises(NoPrimary):
                    drill._mark(looked, said.append)
                assert said == []
            else:
                assert drill._mark(looked, said.append) is None
                assert said == ["warning: Postgres does not run, so that the RPO cannot be measured"]
                assert drill._running_primary(looked) is None


def test_a_drill_to_the_latest_state_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as over:
        main(["drill", "--to", "LATEST"])
    assert over.value.code == Exit.USAGE
    assert capfd.readouterr().err.startswith("groundwork: a drill cannot restore to LATEST")


def test_only_a_drill_without_a_marker_accepts_a_time_after_the_last_commit() -> None:
    early = RecoveryFailed("recovery ended before configured recovery target was reached")
    damaged = RecoveryFailed("could not restore file from archive")
    cases: list[tuple[str, RecoveryFailed | None, bool, bool | RecoveryFailed]] = [
        ("reached, server runs", None, False, False),
        ("reached, server stopped", None, True, False),
        ("end of the WAL, server stopped", early, True, True),
        ("end of the WAL, server runs", early, False, early),
        ("damaged WAL, server stopped", damaged, True, damaged),
    ]
    for name, error, may_end_early, result in cases:
        with in_case(name):
            starts: list[str] = []

            def start(*_: Any, failure: RecoveryFailed | None = error, **__: Any) -> None:
                if failure:
                    raise failure

            def recover(data: str, *, archive_mode: str, done: list[str] = starts, **_: Any) -> None:
                done.append(archive_mode)

            bench: Any = SimpleNamespace(start_server=start, recover_fully=recover)
            if isinstance(result, RecoveryFailed):
                with pytest.raises(RecoveryFailed) as failed:
                    drill._recover(bench, may_end_early=may_end_early)
                assert failed.value is result
            else:
                assert drill._recover(bench, may_end_early=may_end_early) is result
            # A drill never archives.
            assert starts == (["off"] if result is True else [])


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_recovery_that_stops_before_any_end_of_a_transaction_reached_the_moment(end: str) -> None:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    line = f"recovery stopping before {end} of transaction 761, time 2026-05-01 00:00:00.6+00"

    def bench(log: str) -> Any:
        return SimpleNamespace(log=lambda: f"starting\n2026-05-01 00:01:00 UTC [1] LOG:  {log}\n")

    assert checks.reached(bench(line), moment, None) == line
    with pytest.raises(CheckFailed, match="did not reach"):
        checks.reached(bench("redo done at 0/5000028"), moment, None)
