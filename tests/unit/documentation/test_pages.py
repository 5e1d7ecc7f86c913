"""The documentation names every command and setting, and nothing that does not exist."""

from __future__ import annotations

import re

import pytest
import yaml

from infra.outputs import ROLES
from infra.settings import StackSettings
from ops.cli import COMMANDS
from ops.errors import Exit
from tests.cases import in_case
from tests.promises import promise
from tests.unit.documentation import pages

SETTINGS = [setting.key for setting in StackSettings.declarations()]
CLI = pages.ROOT / "docs" / "cli.md"


def declared_targets() -> set[str]:
    declared = re.search(r"^\.PHONY: (.*)$", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    return set(declared[1].split())


@promise("every command and every setting is documented")
def test_every_command_is_named() -> None:
    assert set(COMMANDS) - pages.groundwork_commands(CLI.read_text()) == set()


@promise("every command and every setting is documented")
def test_every_command_is_in_the_reference() -> None:
    page = (pages.ROOT / "docs" / "cli-reference.md").read_text()
    assert [command for command in COMMANDS if f"\n## groundwork {command}" not in page] == []


@promise("every command and every setting is documented")
def test_every_setting_has_a_row() -> None:
    page = (pages.ROOT / "docs" / "settings.md").read_text()
    assert [setting for setting in SETTINGS if f"\n| `{setting}` |" not in page] == []


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(pages.README.read_text().splitlines()) <= 150


def test_every_role_has_a_row() -> None:
    for role in ROLES:
        with in_case(role):
            assert f"\n| `{role}` |" in (pages.ROOT / "docs" / "connections.md").read_text()


@promise("every exit code is documented")
def test_every_exit_code_is_documented() -> None:
    for exit_code in list(Exit):
        with in_case(exit_code):
            assert f"\n| {exit_code.value} |" in CLI.read_text()


def test_a_page_names_only_make_targets_that_exist() -> None:
    for page in pages.PAGES:
        assert pages.make_targets(page.read_text()) - declared_targets() == set(), page


def test_a_page_names_only_commands_that_exist() -> None:
    for page in pages.PAGES:
        assert pages.groundwork_commands(page.read_text()) - set(COMMANDS) == set(), page


def test_a_page_names_only_files_that_exist() -> None:
    for page in pages.PAGES:
        missing = [path for path in pages.paths(page.read_text()) if not (pages.ROOT / path).exists()]
        assert missing == [], page


def test_a_page_names_only_settings_that_exist() -> None:
    for page in pages.PAGES:
        assert pages.settings(page.read_text()) - set(SETTINGS) == set(), page


def test_no_table_has_a_row_twice() -> None:
    for page in pages.PAGES:
        for cells in pages.tables(page.read_text()):
            assert [cell for cell in cells if cells.count(cell) > 1] == [], page


def test_duplicate_rows_are_found_only_within_one_table() -> None:
    head = "| what | where |\n|---|---|\n"
    assert pages.tables(f"{head}| a | 1 |\n| | 2 |\n| a | 3 |\n\n{head}| a | 4 |\n") == [["a", "a"], ["a"]]


def test_links_of_a_page_have_a_target() -> None:
    for page in pages.PAGES:
        for link in pages.links(page.read_text()):
            path, _, anchor = link.partition("#")
            if re.match(r"https?:", path):
                continue
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page, link)
            if anchor:
                assert anchor in pages.anchors(target.read_text()), (page, link)


def test_the_index_has_every_page_of_the_folder() -> None:
    index = pages.ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in pages.links(index.read_text())}
    assert {page for page in index.parent.rglob("*.md") if page != index} <= listed


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_runs_only_make_targets(path: str) -> None:
    text = (pages.ROOT / path).read_text()
    called = re.findall(r"^make ([a-z]+)", text, re.MULTILINE)
    assert called == (["check", "test"] if path == ".ci/run" else [])
    assert re.findall(r"^ +- run: (.*)$", text, re.MULTILINE) == ([] if path == ".ci/run" else [".ci/run"])


def test_a_name_in_code_is_found_and_one_in_prose_is_not() -> None:
    cases: list[tuple[str, set[str], set[str]]] = [
        ("run `make nonsense`", {"nonsense"}, set()),
        ("    make up VOLUMES=1", {"up"}, set()),
        ('    eval "$(.venv/bin/groundwork shellenv)"', set(), {"shellenv"}),
        ("`.venv/bin/groundwork env --role app`", set(), {"env"}),
        ("what people make of it, and groundwork is", set(), set()),
    ]
    for text, targets, commands in cases:
        with in_case(text, targets, commands):
            assert (pages.make_targets(text), pages.groundwork_commands(text)) == (targets, commands)


def test_settings_in_examples_are_accepted() -> None:
    checked = []
    for page in pages.PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            config = (yaml.safe_load(block) or {}).get("config")
            if config:
                StackSettings.parse({"groundwork:target": "docker", **config})
                checked.append(page.name)
    assert {"settings.md", "high-availability.md"} <= set(checked)
