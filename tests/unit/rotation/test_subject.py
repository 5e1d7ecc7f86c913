"""The stack of a rotation: a rotation that is running, and the logins that are compared meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from infra import outputs
from infra.rotation_file import write_rotation
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from infra.spec.rotation import Rotation
from ops.commands import rotate
from ops.errors import Exit, OpsError
from ops.rotation import subject
from ops.rotation.subject import RotatedStack
from ops.stack import connections, pulumi_stack
from ops.stack.change_lock import changing
from ops.stack.pulumi_stack import PulumiStack
from ops.toolchain import provision


@pytest.fixture
def stack(tmp_path: Path) -> RotatedStack:
    checkout = Checkout(root=tmp_path, key="0a1b2c", state_dir=tmp_path / "state", cache_dir=tmp_path)
    return RotatedStack(checkout, "unit")


def test_a_running_rotation_is_known_by_its_process(stack: RotatedStack) -> None:
    assert stack.running_rotation() is None
    with changing(stack.checkout, stack.name, "rotate"):
        assert stack.running_rotation() == f"(process {os.getpid()})"
    assert stack.running_rotation() is None
    with changing(stack.checkout, stack.name, "up"):
        assert stack.running_rotation() is None


def test_logins_of_a_role_with_an_unfinished_step_are_not_compared(
    stack: RotatedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"name": name, "can_login": True, "digest": "", "sessions": 0, "settings": []}
        for name in ("app_b", "readonly_b")
    ]
    monkeypatch.setattr(RotatedStack, "_primary", lambda *_, **__: "postgres")
    monkeypatch.setattr(subject, "psql", lambda *_, **__: json.dumps(rows))
    expected = {outputs.EXPECTED: {"verifierDigests": {"app_a": "digest"}}}
    monkeypatch.setattr(RotatedStack, "known_outputs", lambda _: expected)
    found = stack.login_differences()
    assert any(line.startswith("app_b can log in") for line in found)
    write_rotation(stack.checkout, stack.name, Rotation().step(["app"], dt.datetime.now(dt.UTC)))
    found = stack.login_differences()
    assert not any(line.startswith("app_b") for line in found)
    assert any(line.startswith("readonly_b can log in") for line in found)


def test_a_change_that_up_refuses_is_refused_before_a_rotation_is_recorded(
    stack: RotatedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OpsError("cannot remove key a", Exit.REFUSED)

    settings = StackSettings.parse({})
    monkeypatch.setattr(RotatedStack, "check_running", lambda _: None)
    monkeypatch.setattr(connections, "describe_database", lambda *_: "the database")
    monkeypatch.setattr(provision, "ensure", lambda _: None)
    monkeypatch.setattr(PulumiStack, "prepare", lambda _: settings)
    monkeypatch.setattr(pulumi_stack, "refuse_to_lose_keys", refuse)
    with pytest.raises(OpsError, match="cannot remove key"), rotate._running(stack):
        raise AssertionError
    assert stack.wanted() == stack.progress() == Rotation()
