"""The access service matches the stack's outputs: alive, ready, with metrics."""

from __future__ import annotations

import json
import urllib.request

import pytest

from infra import outputs
from tests.infra.live.reached import Reached
from tests.promises import promise


@pytest.mark.parametrize("path", ["healthz", "metrics"])
def test_access_service_answers(reached: Reached, path: str) -> None:
    with urllib.request.urlopen(f"{reached.outputs[outputs.ACCESS_URL]}/{path}", timeout=30) as answer:
        assert answer.status == 200


@promise("a stack's servers match its outputs")
def test_every_readiness_check_succeeds(reached: Reached) -> None:
    with urllib.request.urlopen(f"{reached.outputs[outputs.ACCESS_URL]}/readyz", timeout=30) as answer:
        told = json.load(answer)
    assert told["ready"] is True
    assert {name: check["ok"] for name, check in told["checks"].items()} == dict.fromkeys(
        ("postgres", "schema", "redis", "outbox"), True
    )
