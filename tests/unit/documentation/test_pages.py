"""The pages name what there is, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.outputs import ROLES
from infra.settings import StackSettings
from ops.cli import COMMANDS
from ops.errors import Exit
from tests.unit.documentation import pages

SETTINGS = [setting.key for setting in StackSettings.declarations()]
CLI = pages.ROOT / "docs" / "cli.md"
every_page = pytest.mark.parametrize(
    "page", pages.PAGES, ids=lambda page: page.relative_to(pages.ROOT).as_posix()
)


def declared_targets() -> set[str]:
    declared = re.search(r"^\.PHONY: (.*)$", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    return set(declared[1].split())


@pytest.mark.parametrize("page", [pages.README, CLI], ids=["README.md", "docs/cli.md"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_named(page: Path, command: str) -> None:
    assert command in pages.groundwork_commands(page.read_text())


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_readme_has_every_setting_in_its_table(setting: str) -> None:
    assert f"\n| `{setting}` |" in pages.README.read_text()


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_names_every_role(role: str) -> None:
    assert f"\n| `{role}` |" in pages.README.read_text()


@pytest.mark.parametrize("exit_code", list(Exit))
def test_every_exit_code_is_documented(exit_code: Exit) -> None:
    assert f"\n| {exit_code.value} |" in CLI.read_text()


@every_page
def test_a_page_names_only_make_targets_that_exist(page: Path) -> None:
    assert pages.make_targets(page.read_text()) <= declared_targets()


@every_page
def test_a_page_names_only_commands_that_exist(page: Path) -> None:
    assert pages.groundwork_commands(page.read_text()) <= set(COMMANDS)


@every_page
def test_a_page_names_only_files_that_exist(page: Path) -> None:
    assert [path for path in pages.paths(page.read_text()) if not (pages.ROOT / path).exists()] == []


@every_page
def test_a_page_names_only_settings_that_exist(page: Path) -> None:
    assert pages.settings(page.read_text()) <= set(SETTINGS)


@every_page
def test_a_table_says_each_thing_once(page: Path) -> None:
    for cells in pages.tables(page.read_text()):
        assert [cell for cell in cells if cells.count(cell) > 1] == []


def test_a_row_that_stands_twice_is_seen_and_one_of_another_table_is_none() -> None:
    head = "| what | where |\n|---|---|\n"
    assert pages.tables(f"{head}| a | 1 |\n| | 2 |\n| a | 3 |\n\n{head}| a | 4 |\n") == [["a", "a"], ["a"]]


@every_page
def test_a_pages_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page.read_text()):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target.read_text()), link


def test_the_index_has_every_page_of_the_folder() -> None:
    index = pages.ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in pages.links(index.read_text())}
    assert {page for page in index.parent.rglob("*.md") if page != index} <= listed


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
def test_ci_calls_only_what_people_can_run(path: str) -> None:
    text = (pages.ROOT / path).read_text()
    called = re.findall(r"^make ([a-z]+)", text, re.MULTILINE)
    assert called == (["check", "test"] if path == ".ci/run" else [])
    assert re.findall(r"^ +- run: (.*)$", text, re.MULTILINE) == ([] if path == ".ci/run" else [".ci/run"])


@pytest.mark.parametrize(
    ("text", "targets", "commands"),
    [
        ("run `make nonsense`", {"nonsense"}, set()),
        ("    make up VOLUMES=1", {"up"}, set()),
        ('    eval "$(.venv/bin/groundwork shellenv)"', set(), {"shellenv"}),
        ("`.venv/bin/groundwork env --role app`", set(), {"env"}),
        ("what people make of it, and groundwork is", set(), set()),
    ],
)
def test_a_name_in_code_is_found_and_one_in_prose_is_not(
    text: str, targets: set[str], commands: set[str]
) -> None:
    assert (pages.make_targets(text), pages.groundwork_commands(text)) == (targets, commands)
