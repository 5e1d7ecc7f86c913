"""Pulumi's state file: what it contains, and that a damaged one is not taken for an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.checkpoint import read_deployment, resources_of, stack_outputs_of
from infra.spec.errors import InfraError


def test_a_stack_before_its_first_up_has_no_resources(tmp_path: Path) -> None:
    state = tmp_path / "dev.json"
    state.write_text('{"version": 3, "checkpoint": {"stack": "dev", "latest": null}}')
    assert resources_of(read_deployment(state)) == []
    assert stack_outputs_of(read_deployment(state)) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"checkpoint": null}', '{"version": 3}'])
def test_a_damaged_state_is_refused_and_names_the_file_and_its_backup(tmp_path: Path, content: str) -> None:
    state = tmp_path / "dev.json"
    state.write_text(content)
    with pytest.raises(InfraError, match=r"dev\.json is damaged; copy dev\.json\.bak over it"):
        read_deployment(state)


@pytest.mark.parametrize(("ending", "program"), [(".gz", "gunzip"), (".zst", "unzstd --rm")])
def test_a_compressed_state_is_refused_with_the_program_that_unpacks_it(
    tmp_path: Path, ending: str, program: str
) -> None:
    state = tmp_path / "dev.json"
    with pytest.raises(FileNotFoundError):
        read_deployment(state)
    Path(f"{state}{ending}").touch()
    with pytest.raises(InfraError, match=f"run `{program} {state}{ending}`"):
        read_deployment(state)
