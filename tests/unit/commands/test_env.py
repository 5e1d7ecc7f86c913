"""`groundwork env` without a stack: how often it decrypts the outputs, and what it prints."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from infra import outputs
from ops.commands.env import env
from ops.stack.pulumi_stack import PulumiStack

VALUES = {
    outputs.DATABASE_URLS: {"app": "postgresql://app_a@localhost/groundwork"},
    outputs.REDIS_URLS: {"app": "rediss://app@localhost/0", "ops": "rediss://ops@localhost/0"},
    outputs.TOKEN_KEYS: "1:key",
}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], {"DATABASE_URL", "REDIS_URL"}),
        (["--tokens"], {"DATABASE_URL", "REDIS_URL", "GROUNDWORK_TOKEN_KEYS"}),
        (["--role", "ops"], {"REDIS_URL"}),
    ],
)
def test_env_decrypts_the_outputs_once(
    monkeypatch: pytest.MonkeyPatch, options: list[str], names: set[str]
) -> None:
    reads = []

    def read(stack: PulumiStack) -> dict[str, Any]:
        reads.append(stack.name)
        return VALUES

    monkeypatch.setattr(PulumiStack, "outputs", read)
    done = CliRunner().invoke(env, ["--stack", "dev", "--format", "json", *options])
    assert done.exception is None, done.output
    assert set(json.loads(done.stdout)) == names
    assert reads == ["dev"]


def test_env_of_a_stack_without_replicas_does_not_import_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ops.servers.postgres_primary", "ops.servers.redis_primary"):
        # None makes an import of the module fail.
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(PulumiStack, "outputs", lambda _stack: VALUES)
    done = CliRunner().invoke(env, ["--stack", "dev"])
    assert done.exception is None, done.output
