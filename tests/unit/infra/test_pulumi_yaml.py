"""Pulumi.yaml declares the settings, all of them and nothing else; the stacks' files set what exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import Setting, StackSettings
from infra.spec.world import PROJECT

ROOT = Path(__file__).parents[3]
STACK_FILES = sorted(ROOT.glob("Pulumi.*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    config: dict[str, Any] = _read(ROOT / "Pulumi.yaml")["config"]
    return config


def test_it_declares_every_setting_in_order_and_no_other(declared: dict[str, Any]) -> None:
    assert list(declared) == [f"{PROJECT}:{setting.key}" for setting in StackSettings.declarations()]


@pytest.mark.parametrize("setting", StackSettings.declarations(), ids=lambda s: s.key)
def test_it_declares_a_setting_with_type_default_and_description(
    declared: dict[str, Any], setting: Setting
) -> None:
    assert declared[f"{PROJECT}:{setting.key}"] == {
        "type": setting.type,
        "default": setting.default,
        "description": setting.description,
    }


def test_the_declared_defaults_are_a_valid_stack(declared: dict[str, Any]) -> None:
    values = {key: declaration["default"] for key, declaration in declared.items()}
    assert StackSettings.parse(values) == StackSettings()


@pytest.mark.parametrize("path", STACK_FILES, ids=lambda path: path.name)
def test_the_file_of_a_stack_holds_valid_settings(path: Path) -> None:
    StackSettings.parse(_read(path)["config"])


def test_the_stacks_of_the_two_commands_have_their_files() -> None:
    assert {"Pulumi.dev.yaml", "Pulumi.test.yaml"} <= {path.name for path in STACK_FILES}
