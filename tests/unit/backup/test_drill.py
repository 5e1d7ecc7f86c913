"""What a drill does to the containers that other commands left, without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.backup import drill, workbench
from ops.backup.site import Site
from ops.cli import main
from ops.errors import Exit

PREFIX = "gw-1a2b3c-dev"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """Docker's containers and networks, as (kind, name): what commands make and remove."""
    found: set[tuple[str, str]] = set()

    def docker(*arguments: str, **options: Any) -> str:
        match arguments:
            case ("network", "create", *_, name):
                assert ("network", name) not in found
                found.add(("network", name))
            case ("network", "rm", name):
                found.remove(("network", name))
            case ("run", *rest):
                name = rest[rest.index("--name") + 1]
                assert ("container", name) not in found
                found.add(("container", name))
            case ("rm", *_, name):
                found.remove(("container", name))
            case _:
                raise AssertionError(arguments)
        return ""

    def inspect(kind: str, name: str) -> list[dict[str, Any]]:
        return [{}] if (kind, name) in found else []

    for module in (drill, workbench):
        monkeypatch.setattr(module, "docker", docker)
        monkeypatch.setattr(module, "inspect", inspect)
    return found


@pytest.fixture
def site() -> Site:
    names = ("image", "data", "config", "repository", "postgres", "access")
    return Site("dev", PREFIX, *names, lock_file=Path("/no/such/lock"))


def test_a_drill_sweeps_what_a_killed_drill_left(there: set[tuple[str, str]], site: Site) -> None:
    there |= {("container", f"{PREFIX}-drill"), ("network", f"{PREFIX}-drill")}
    with drill._throwaway(site) as bench:
        assert there == {("container", bench.name), ("network", f"{PREFIX}-drill")}
    assert there == set()


def test_a_drill_leaves_the_workbench_of_a_killed_restore(there: set[tuple[str, str]], site: Site) -> None:
    """By it `up` knows that a restore is to be finished: a drill comes by night, from cron."""
    there.add(("container", f"{PREFIX}-restore"))
    with drill._throwaway(site):
        pass
    assert there == {("container", f"{PREFIX}-restore")}


def test_a_drill_to_the_newest_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as over:
        main(["drill", "--to", "LATEST"])
    assert over.value.code == Exit.USAGE
    assert capfd.readouterr().err.startswith("groundwork: a drill restores to a moment")
