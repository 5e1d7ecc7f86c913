"""The access service as the stack's outputs promise it: alive, ready, and measured."""

from __future__ import annotations

import json
import urllib.request

import pytest

from infra import outputs
from tests.infra.live.reached import Reached


@pytest.mark.parametrize("path", ["healthz", "metrics"])
def test_it_answers(reached: Reached, path: str) -> None:
    with urllib.request.urlopen(f"{reached.outputs[outputs.ACCESS_URL]}/{path}", timeout=10) as answer:
        assert answer.status == 200


def test_every_check_of_its_readiness_is_fine(reached: Reached) -> None:
    with urllib.request.urlopen(f"{reached.outputs[outputs.ACCESS_URL]}/readyz", timeout=10) as answer:
        told = json.load(answer)
    assert told["ready"] is True
    assert {name: check["ok"] for name, check in told["checks"].items()} == dict.fromkeys(
        ("postgres", "schema", "redis", "outbox"), True
    )
