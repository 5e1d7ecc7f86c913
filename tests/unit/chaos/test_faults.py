"""Which faults still have to be undone after the container has started again."""

from __future__ import annotations

from typing import Any

import pytest

from infra.docker.engine import DockerError
from infra.spec.checkout import STATE_LABEL
from ops.chaos import faults, helper
from ops.chaos.faults import FaultInjector
from ops.chaos.journal import ActiveFault
from ops.chaos.plan import FREEZE, PARTITION, SLOW
from tests.cases import in_case


def _refuse(*_: object, **__: object) -> str:
    raise DockerError("container is restarting, wait until the container is running")


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A running container, which refuses every command."""
    found = {"Id": "a1", "State": {"Running": True, "Restarting": False, "StartedAt": "2026-01-01T00:00:00Z"}}
    monkeypatch.setattr(faults, "inspect", lambda *_: [found])
    monkeypatch.setattr(faults, "docker", _refuse)
    monkeypatch.setattr(helper, "docker", _refuse)
    monkeypatch.setattr(helper, "remove_container", lambda *_: None)
    return found


def test_a_fault_is_over_when_its_container_has_started_again(container: dict[str, Any]) -> None:
    recorded: list[ActiveFault] = []
    injector = FaultInjector({STATE_LABEL: "s"}, lambda: "image", lambda _: [], recorded.append)
    for fault in (FREEZE, PARTITION, SLOW):
        with in_case(fault):
            with pytest.raises(DockerError):
                injector.cause(ActiveFault("00", fault, "redis", "gw-redis", 0), 10)
            with pytest.raises(DockerError):
                injector.undo(recorded[-1])
            restarted = container | {"State": container["State"] | {"StartedAt": "2026-01-01T00:05:00Z"}}
            waiting = container | {"State": container["State"] | {"Restarting": True}}
            another = container | {"Id": "b2"}
            for later in (restarted, waiting, another):
                before = dict(container)
                container.update(later)
                injector.undo(recorded[-1])
                container.update(before)
