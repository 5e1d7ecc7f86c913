"""The generations of a rotation: the order of the phases, and refusal of invalid files."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from infra import outputs
from infra.rotation_file import (
    forget_rotation,
    path_of,
    read_progress,
    read_rotation,
    write_progress,
    write_rotation,
)
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.roles import LOGINS, login_of
from infra.spec.rotation import Generation, Phase, Rotation
from tests.cases import in_case
from tests.promises import promise

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
STACK = "unit"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(root=tmp_path, key="0a1b2c", state_dir=tmp_path / "state", cache_dir=tmp_path)


def test_a_generation_passes_the_phases_in_order_and_the_one_in_use_is_accepted() -> None:
    generation, seen = Generation(), []
    for _ in range(7):
        seen.append((generation.phase, generation.in_use, generation.accepted))
        generation = generation.step(NOW)
    assert seen == [
        (Phase.AT_REST, 1, (1,)),
        (Phase.PREPARED, 1, (1, 2)),
        (Phase.MOVED, 2, (1, 2)),
        (Phase.AT_REST, 2, (2,)),
        (Phase.PREPARED, 2, (2, 3)),
        (Phase.MOVED, 3, (2, 3)),
        (Phase.AT_REST, 3, (3,)),
    ]


def test_an_invalid_combination_of_generations_is_refused() -> None:
    cases: list[tuple[int, tuple[int, ...]]] = [
        (1, ()),
        (3, (1, 2)),
        (1, (1, 3)),
        (1, (2, 1)),
        (0, (0,)),
        (1, (1, 2, 3)),
    ]
    for in_use, accepted in cases:
        with in_case(in_use, accepted):
            with pytest.raises(InfraError):
                Generation(in_use, accepted)


def test_the_logins_of_a_role_alternate() -> None:
    for role in LOGINS:
        with in_case(role):
            turns = [login_of(role, generation) for generation in range(1, 5)]
            names = [login.name for login in LOGINS[role]]
            assert turns == (names * 4)[:4]


def test_a_rotation_is_read_back_unchanged(checkout: Checkout) -> None:
    rotation = Rotation().step(["app", "authority"], NOW).renew("certificates", NOW)
    write_rotation(checkout, STACK, rotation)
    assert read_rotation(checkout, STACK) == rotation


def test_the_progress_of_a_rotation_is_read_back_and_an_empty_file_of_an_earlier_version_has_none(
    checkout: Checkout,
) -> None:
    assert read_progress(checkout, STACK) == Rotation()
    file = checkout.stack_dir(STACK) / "rotation-applying"
    file.parent.mkdir(parents=True)
    file.touch()
    assert read_progress(checkout, STACK) == Rotation()
    progress = Rotation().step(["app"], NOW)
    write_progress(checkout, STACK, progress)
    assert read_progress(checkout, STACK) == progress
    write_progress(checkout, STACK, Rotation())
    assert not file.exists()


def test_a_stack_that_was_never_rotated_has_first_generations(checkout: Checkout) -> None:
    assert read_rotation(checkout, STACK) == Rotation()


@promise("if rotation.json is lost, it is restored from the state's output")
def test_a_lost_file_is_replaced_by_the_stacks_state(checkout: Checkout) -> None:
    rotation = Rotation().step(["app"], NOW)
    state = checkout.backend_dir / ".pulumi" / "stacks" / "groundwork" / f"{STACK}.json"
    state.parent.mkdir(parents=True)
    resource = {"type": "pulumi:pulumi:Stack", "outputs": {outputs.ROTATION: rotation.as_json()}}
    state.write_text(json.dumps({"checkpoint": {"latest": {"resources": [resource]}}}))
    assert read_rotation(checkout, STACK) == rotation
    write_rotation(checkout, STACK, rotation.step(["app"], NOW))
    assert read_rotation(checkout, STACK).of("app").phase is Phase.MOVED
    forget_rotation(checkout, STACK)
    assert read_rotation(checkout, STACK) == rotation


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"app"',
        '{"app": 1}',
        '{"app": {"inUse": 1}}',
        '{"app": {"inUse": "one", "accepted": [1]}}',
        '{"app": {"inUse": 5, "accepted": [1]}}',
        '{"app": {"inUse": 1, "accepted": [1], "since": "yesterday"}}',
        '{"nobody": {"inUse": 1, "accepted": [1]}}',
    ],
)
def test_a_damaged_file_is_reported_in_one_line(checkout: Checkout, text: str) -> None:
    path = path_of(checkout, STACK)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InfraError) as raised:
        read_rotation(checkout, STACK)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_from_pulumis_state_may_be_floats() -> None:
    value: Any = {"app": {"inUse": 2.0, "accepted": [1.0, 2.0], "since": None}}
    assert Rotation.from_json(value, "the state").of("app") == Generation(2, (1, 2))
