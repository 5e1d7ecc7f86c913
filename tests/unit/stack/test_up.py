"""`up` of a stack whose containers, networks, volumes or images were removed, or whose servers do not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from ops.errors import OpsError
from ops.stack import pulumi_stack, recorded, token_keys
from ops.stack.pulumi_stack import PulumiStack
from tests.cases import in_case
from tests.promises import promise

ROOT = Path(__file__).parents[3]
RESOURCES = [
    {"type": "docker:index/container:Container", "id": "c1"},
    {"type": "pulumi-python:dynamic/docker:Network", "id": "n1"},
    {"type": "docker:index/volume:Volume", "id": "data"},
    {
        "type": "pulumi-python:dynamic:Resource",
        "urn": "urn:pulumi:dev::groundwork::…::token-key-k0",
    },
    {"type": "pulumi-python:dynamic/docker:Image", "id": "tag", "outputs": {"image_id": "i1"}},
]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PulumiStack:
    """A stack in Docker with a container, a network, a volume and an image."""
    found = PulumiStack(Checkout(ROOT, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")
    found.state_file.parent.mkdir(parents=True)
    found.state_file.write_text(json.dumps({"checkpoint": {"latest": {"resources": RESOURCES}}}))
    settings = StackSettings.parse({"groundwork:target": "docker"})
    monkeypatch.setattr(PulumiStack, "prepare", lambda self: settings)
    monkeypatch.setattr(pulumi_stack, "start_stopped", lambda *_, **__: None)
    monkeypatch.setattr(PulumiStack, "_app_url", lambda self: "")
    use_token_key(monkeypatch, "k1")
    return found


def use_token_key(monkeypatch: pytest.MonkeyPatch, key_id: str) -> None:
    """Let the tokens of users be encrypted with a key."""
    monkeypatch.setattr(token_keys, "_used", lambda _: {key_id})


def up(stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, missing: str = "") -> list[str]:
    """Run `up` while Docker lacks an object, and return what was done: Pulumi's options, and the final check."""
    done: list[str] = []

    def inspect(kind: str, *ids: str) -> list[dict[str, Any]]:
        return [{"Id": each, "Name": each} for each in ids if each != missing]

    def stream(self: PulumiStack, *arguments: str, **_: Any) -> int:
        done.append(" ".join(arguments))
        return 0

    def require_healthy(name: str, containers: list[str], _say: object) -> None:
        done.append(f"check {name}: {', '.join(containers)}")

    monkeypatch.setattr(recorded, "inspect", inspect)
    monkeypatch.setattr(PulumiStack, "_stream", stream)
    monkeypatch.setattr(pulumi_stack, "require_healthy", require_healthy)
    stack.up()
    return done


def test_up_ends_with_a_check_of_every_container(stack: PulumiStack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert up(stack, monkeypatch) == ["up --yes --skip-preview --suppress-outputs", "check dev: c1"]


def test_up_fails_if_the_servers_do_not_run(stack: PulumiStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def unhealthy(*_: object) -> None:
        raise OpsError("stack 'dev' is not up")

    monkeypatch.setattr(recorded, "inspect", lambda kind, *ids: [{"Name": each} for each in ids])
    monkeypatch.setattr(PulumiStack, "_stream", lambda *_, **__: 0)
    monkeypatch.setattr(pulumi_stack, "require_healthy", unhealthy)
    with pytest.raises(OpsError, match="stack 'dev' is not up"):
        stack.up()


@pytest.mark.parametrize("missing", ["c1", "n1", "data", "i1"])
def test_what_docker_lacks_is_removed_from_the_state_first(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (pulumi, _) = up(stack, monkeypatch, missing)
    assert "--refresh" in pulumi


def test_a_lost_volume_is_named(
    stack: PulumiStack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    up(stack, monkeypatch, "data")
    assert capfd.readouterr().err == (
        "warning: volume data no longer exists, and its data is lost; creating an empty one\n"
    )


def test_a_key_that_tokens_need_is_not_deleted(stack: PulumiStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state has key k0, and the setting does not name it."""
    assert up(stack, monkeypatch) != []
    use_token_key(monkeypatch, "k0")
    with pytest.raises(OpsError, match="cannot remove key k0 from groundwork:tokenKeys"):
        up(stack, monkeypatch)
    # Before the first `up` has ended, there are no tokens.
    monkeypatch.setattr(PulumiStack, "_app_url", lambda self: None)
    assert up(stack, monkeypatch) != []


@promise("a bad setting is refused in one line that names it, before anything is changed")
def test_a_stack_file_that_has_no_settings_is_refused_in_one_line(tmp_path: Path) -> None:
    cases = {
        b"config: one": "needs `config:`",
        b"config: [one]": "needs `config:`",
        b"one": "needs `config:`",
        b"- one": "needs `config:`",
        "# gr\u00fcn\n".encode("latin-1"): "is not UTF-8",
        b"config: {one": "is not valid YAML",
    }
    stack = PulumiStack(Checkout(tmp_path, "1a2b3c", tmp_path / "state", tmp_path / "cache"), "dev")
    file = tmp_path / "Pulumi.dev.yaml"
    for content, problem in cases.items():
        file.write_bytes(content)
        with in_case(content), pytest.raises(OpsError, match=f"Pulumi.dev.yaml .*{problem}") as refused:
            stack.check_settings()
        assert "\n" not in str(refused.value)
    for content in (b"", b"config:", b"config: {1: 2}"):
        file.write_bytes(content)
        with in_case(content):
            assert stack.check_settings() == StackSettings()
