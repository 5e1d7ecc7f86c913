"""Pulumi.yaml declares exactly the settings, and the stacks' files contain valid ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import StackSettings
from infra.spec.checkout import PROJECT
from tests.cases import in_case

ROOT = Path(__file__).parents[3]
STACK_FILES = sorted(ROOT.glob("Pulumi.*.yaml"))


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.fixture(scope="module")
def declared() -> dict[str, Any]:
    config: dict[str, Any] = _read(ROOT / "Pulumi.yaml")["config"]
    return config


def test_it_declares_exactly_the_settings_in_order(declared: dict[str, Any]) -> None:
    assert list(declared) == [f"{PROJECT}:{setting.key}" for setting in StackSettings.declarations()]


def test_it_declares_a_setting_with_type_default_and_description(declared: dict[str, Any]) -> None:
    for setting in StackSettings.declarations():
        assert declared[f"{PROJECT}:{setting.key}"] == {
            "type": setting.type,
            "default": setting.default,
            "description": setting.description,
        }


def test_the_declared_defaults_are_a_valid_stack(declared: dict[str, Any]) -> None:
    values = {key: declaration["default"] for key, declaration in declared.items()}
    assert StackSettings.parse(values) == StackSettings()


def test_a_stacks_file_contains_valid_settings() -> None:
    for path in STACK_FILES:
        with in_case(path):
            StackSettings.parse(_read(path)["config"])


def test_the_default_stacks_have_files() -> None:
    assert {"Pulumi.dev.yaml", "Pulumi.test.yaml"} <= {path.name for path in STACK_FILES}
