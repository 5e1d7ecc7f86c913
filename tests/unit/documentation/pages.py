"""The documentation pages, and what they name: links, commands, files, settings."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

_MARKUP = re.compile(r"```.*?```|`[^`\n]+`|^ {4}\S[^\n]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")


def code(text: str) -> list[str]:
    """Return what is code: text in backticks, in fences and in indented lines."""
    return _MARKUP.findall(text)


def python_examples(page: str) -> list[str]:
    """Return the Python code in fences of a page, such as "docs/tokens.md"."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """Return the targets of the links. Examples in code are not links."""
    return _LINK.findall(_MARKUP.sub("", text))


def make_targets(text: str) -> set[str]:
    """Return the targets of the `make` commands in code. A command is at the start of its line."""
    return {
        target
        for span in code(text)
        for target in re.findall(r"^[ `]*make ([a-z][a-z-]*)", span, re.MULTILINE)
    }


def groundwork_commands(text: str) -> set[str]:
    """Return the subcommands of `groundwork` in code."""
    return {
        command
        for span in code(text)
        for command in re.findall(r"(?:^|[\s`/(])groundwork ([a-z][a-z-]*)", span)
    }


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts generate them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {anchor_of(heading) for heading in headings}


def anchor_of(heading: str) -> str:
    """Return a heading's anchor."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def tables(text: str) -> list[list[str]]:
    """Return the first cells of each table's rows, without the head and without empty cells."""
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
    """Return the files and folders of the repository in backticks."""
    return set(re.findall(r"`((?:infra|db|cache|ops|tests|scripts|docs|\.ci)/[\w./-]*)`", text))


def settings(text: str) -> set[str]:
    """Return the settings that a page names with the project's prefix."""
    return set(re.findall(r"\bgroundwork:([a-z][A-Za-z]+)", text))
