"""The last step of `up`: it fails if a container of the stack is not healthy."""

from __future__ import annotations

from typing import Any

import pytest

from infra.docker import health_check
from infra.docker.engine import DockerError
from ops.errors import Exit, OpsError
from ops.stack import final_health
from ops.stack.final_health import require_healthy


class Engine:
    """Containers by id, with Docker's verdict. Counts the inspections, and records whose health was awaited."""

    def __init__(self, **verdicts: str) -> None:
        self.verdicts = verdicts
        self.answers: set[str] = set()
        self.inspections = 0
        self.awaited: list[str] = []

    def inspect(self, _kind: str, *ids: str) -> list[dict[str, Any]]:
        self.inspections += 1
        return [self._found(each) for each in ids if each in self.verdicts]

    def _found(self, id_: str) -> dict[str, Any]:
        verdict = self.verdicts[id_]
        state = {
            "Status": verdict if verdict in ("exited", "restarting") else "running",
            "Running": verdict != "exited",
            "Restarting": verdict == "restarting",
            "Health": {"Status": verdict if verdict in ("healthy", "starting") else "unhealthy"},
        }
        config = {"Healthcheck": {"Test": ["CMD", "check"]}}
        return {"Id": id_, "Name": f"/gw-{id_}", "State": state, "Config": config}

    def check(self, found: dict[str, Any]) -> health_check.Outcome:
        return health_check.Outcome(found["Id"] in self.answers, "")

    def wait(self, id_: str, _seconds: float) -> None:
        self.awaited.append(id_)
        if id_ not in self.answers:
            raise DockerError(f"container gw-{id_} is {self.verdicts.get(id_, 'removed')} and not healthy")

    def require(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[str]:
        """Call require_healthy for all containers and return what it said."""
        monkeypatch.setattr(final_health, "inspect", self.inspect)
        monkeypatch.setattr(health_check, "run_check", self.check)
        monkeypatch.setattr(final_health, "wait_until_healthy", self.wait)
        monkeypatch.setattr(final_health, "last_lines_of_log", lambda name, count: [f"last words of {name}"])
        self.said: list[str] = []
        require_healthy("dev", [*self.verdicts, *more], self.said.append)
        return self.said


def test_healthy_containers_cost_one_docker_command(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(postgres="healthy", redis="healthy", access="healthy")
    assert engine.require(monkeypatch) == []
    assert (engine.inspections, engine.awaited) == (1, [])


def test_a_container_that_answers_before_dockers_next_check_is_not_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(postgres="starting", redis="unhealthy")
    engine.answers = {"postgres", "redis"}
    assert engine.require(monkeypatch) == []
    assert engine.awaited == []


@pytest.mark.parametrize("verdict", ["restarting", "unhealthy", "exited"])
def test_a_container_that_is_not_healthy_fails_with_its_name_and_log(
    monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    engine = Engine(postgres=verdict, redis="healthy")
    with pytest.raises(OpsError) as failed:
        engine.require(monkeypatch)
    assert failed.value.exit_code is Exit.ERROR
    assert str(failed.value) == (
        "stack 'dev' is not up: gw-postgres is not healthy (the reasons are above); existing data is kept; fix the"
        " cause and run the same command again to resume"
    )
    assert engine.said == [
        "waiting for gw-postgres to become healthy",
        f"container gw-postgres is {verdict} and not healthy",
        "    last words of postgres",
    ]


def test_all_containers_that_are_not_healthy_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(postgres="restarting", redis="healthy", access="unhealthy")
    with pytest.raises(OpsError, match="gw-postgres, gw-access, removed are not healthy"):
        engine.require(monkeypatch, "removed")
    assert engine.awaited == ["postgres", "access", "removed"]
