"""`groundwork toolchain` and `groundwork shellenv` on the command line. Nothing is installed."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.docker import ownership
from infra.docker.ownership import StateLost
from infra.spec.checkout import Checkout
from ops.commands.shellenv import shellenv
from ops.commands.toolchain import toolchain
from ops.errors import OpsError
from ops.toolchain import provision, stack_init
from ops.toolchain.inventory import Tool, ToolSource

FOUND = Tool("Docker engine", "27.1.1", ToolSource.FOUND, "/var/run/docker.sock")
BUILT = Tool("Pulumi CLI", "3.259.0", ToolSource.BUILT, "/cache/pulumi", 171.4)
MISSING = Tool("Base image", "", ToolSource.MISSING, "groundwork/base")


@pytest.fixture(autouse=True)
def here(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkout, "here", classmethod(lambda _cls: checkout))


def in_place(monkeypatch: pytest.MonkeyPatch, *tools: Tool) -> None:
    monkeypatch.setattr(provision, "inspect", lambda _checkout: tools)


def test_check_exits_with_3_if_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place(monkeypatch, FOUND, MISSING)
    result = CliRunner().invoke(toolchain, ["--check"])
    assert result.exit_code == 3
    assert "Base image             missing  groundwork/base" in result.output


def test_check_exits_with_0_if_everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place(monkeypatch, FOUND)
    assert CliRunner().invoke(toolchain, ["--check"]).exit_code == 0


def test_slow_steps_show_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place(monkeypatch, FOUND, BUILT)
    lines = CliRunner().invoke(toolchain, ["--check"]).output.splitlines()
    assert lines == [
        "Docker engine  27.1.1   found           /var/run/docker.sock",
        "Pulumi CLI     3.259.0  built in 171 s  /cache/pulumi",
    ]


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    in_place(monkeypatch, BUILT)
    content = json.loads(CliRunner().invoke(toolchain, ["--check", "--json"]).stdout)
    assert content == {
        "tools": [
            {
                "name": "Pulumi CLI",
                "version": "3.259.0",
                "source": "built",
                "where": "/cache/pulumi",
                "seconds": 171.4,
            }
        ]
    }


def test_shellenv_can_be_evaluated_with_any_values(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "a 'quoted' $HOME `id`"
    monkeypatch.setattr("ops.toolchain.pulumi_environment.variables", lambda _checkout: {"ODD": odd})
    monkeypatch.setattr("ops.toolchain.stack_init.ensure", lambda *_: None)
    for name in ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_DIY_BACKEND_GZIP"):
        monkeypatch.setenv(name, "of the user's")
    lines = CliRunner().invoke(shellenv, ["--stack", "staging"]).stdout
    script = (
        f'eval {shlex.quote(lines)}; printf "%s|%s|%s|%s" "$ODD" "$PULUMI_STACK" "$PULUMI_CONFIG_PASSPHRASE"'
        ' "$PULUMI_DIY_BACKEND_GZIP"'
    )
    assert subprocess.check_output(["sh", "-c", script], text=True) == f"{odd}|staging||"


def test_an_unknown_stack_is_refused_with_the_existing_ones(checkout: Checkout) -> None:
    for name in ("dev", "prod"):
        Path(checkout.root, f"Pulumi.{name}.yaml").touch()
    with pytest.raises(
        OpsError, match=r"unknown stack 'tset' \(Pulumi.tset.yaml is missing\); stacks: dev, prod"
    ):
        stack_init.ensure(checkout, "tset")


def test_no_empty_state_takes_the_place_of_a_lost_one(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulumi would move the last copy of the lost state away."""

    def lost(*_: object) -> None:
        raise StateLost("the state of stack 'dev' is lost")

    Path(checkout.root, "Pulumi.dev.yaml").touch()
    monkeypatch.setattr(ownership, "require_own", lost)
    monkeypatch.setattr(stack_init.process, "run", lambda *_, **__: pytest.fail("Pulumi was run"))
    with pytest.raises(StateLost):
        stack_init.ensure(checkout, "dev")
