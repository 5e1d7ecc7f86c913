"""The pages people read: which there are, and what they name."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_MARKUP = re.compile(r"```.*?```|`[^`\n]+`|^ {4}\S.*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")


def code(text: str) -> list[str]:
    """What stands as code: in backticks, in fences, in indented lines. Prose is left out."""
    return _MARKUP.findall(text)


def links(text: str) -> list[str]:
    """Where the links lead; examples in code are no links."""
    return _LINK.findall(_MARKUP.sub("", text))


def make_targets(text: str) -> set[str]:
    """The targets of the `make` commands that stand as code; a command begins its line."""
    return {
        target
        for span in code(text)
        for target in re.findall(r"^[ `]*make ([a-z][a-z-]*)", span, re.MULTILINE)
    }


def groundwork_commands(text: str) -> set[str]:
    """The subcommands of `groundwork` that stand as code."""
    return {
        command
        for span in code(text)
        for command in re.findall(r"(?:^|[\s`/(])groundwork ([a-z][a-z-]*)", span)
    }


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(text: str) -> list[list[str]]:
    """The first cells of each table's rows, its head left out; one that is empty goes on with the row above."""
    found: list[list[str]] = []
    before = ""
    for line in text.splitlines():
        if re.fullmatch(r"\|[-:| ]+\|", line):
            found.append([])
        elif line.startswith("|") and found and before.startswith("|"):
            found[-1] += [cell] if (cell := line.split("|")[1].strip()) else []
        before = line
    return found


def paths(text: str) -> set[str]:
    """Files and folders of the repository that stand in backticks."""
    return set(re.findall(r"`((?:infra|db|cache|ops|tests|scripts|docs|\.ci)/[\w./-]*)`", text))


def settings(text: str) -> set[str]:
    """Settings that stand in a page with the project's name before them."""
    return set(re.findall(r"\bgroundwork:([a-z][A-Za-z]+)", text))
