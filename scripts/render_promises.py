"""Render docs/promises.md from tests/promises.toml and the `@promise` markers of the tests.

`python -m scripts.render_promises` writes the page, and `--check` exits 1 if the page is stale. Both exit 1 if a
promise has no test of every run, a marker names an unknown promise, or a promise's page, section or figure does not
exist.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.documentation.pages import anchor_of

ROOT = Path(__file__).parents[1]
CATALOGUE = "tests/promises.toml"
BENCHMARKS = "docs/benchmarks.md"
PAGE = ROOT / "docs" / "promises.md"
_HEAD = """\
# Promises and their tests

The documentation's promises, and the tests that prove them. A negative control is a test in which a naive
implementation breaks the promise: it shows that the tests would notice. Tests at full scale run with
`make test SCALE=full` only; each promise also has a test of every run.
Figures are those of [the last `make bench`](benchmarks.md).

Rendered by `make fix` from `tests/promises.toml` and the `@promise` markers of the tests.
"""


@dataclass(frozen=True)
class PromiseMarker:
    """A use of `@promise` in a test file."""

    text: str
    is_control: bool
    path: str
    # The test function or class; empty if the marker applies to the whole file.
    test: str
    # Whether the test is skipped unless SCALE=full.
    is_full_scale: bool = False

    def link(self) -> str:
        """Return a Markdown link from a page in docs/ to the test's file."""
        name = self.test or self.path.rpartition("/")[2]
        return f"[{name}](../{self.path})" + (" (full scale)" if self.is_full_scale else "")


@dataclass
class Promise:
    """A promise of the documentation, its tests and its last measured figure."""

    text: str
    # "docs/page.md#anchor"
    section: str
    figure: str = ""
    tests: list[PromiseMarker] = field(default_factory=list)
    controls: list[PromiseMarker] = field(default_factory=list)


def read_catalogue(text: str) -> list[Promise]:
    """Return the promises of the catalogue, in the order of the file."""
    return [
        Promise(entry, section["page"])
        if isinstance(entry, str)
        else Promise(section=section["page"], **entry)
        for section in tomllib.loads(text)["section"]
        for entry in section["promises"]
    ]


def read_markers(source: str, path: str) -> Iterator[PromiseMarker]:
    """Yield the `@promise` markers of a test file: on functions, on classes and in `pytestmark`."""
    yield from _markers_in(ast.parse(source).body, path, is_full_scale=False)


def _markers_in(body: list[ast.stmt], path: str, *, is_full_scale: bool) -> Iterator[PromiseMarker]:
    """Yield the markers of a file's or a class's statements. `is_full_scale` says whether all of them are skipped."""
    marks = [
        node.value
        for node in body
        if isinstance(node, ast.Assign) and "pytestmark" in map(ast.unparse, node.targets)
    ]
    is_full_scale = is_full_scale or _needs_full_scale(marks)
    yield from _calls_of_promise(marks, path, "", is_full_scale)
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            is_skipped = is_full_scale or _needs_full_scale(node.decorator_list)
            yield from _calls_of_promise(node.decorator_list, path, node.name, is_skipped)
            if isinstance(node, ast.ClassDef):
                yield from _markers_in(node.body, path, is_full_scale=is_skipped)


def _needs_full_scale(marks: list[ast.expr]) -> bool:
    """Return whether a mark is `skipif(not IS_FULL, ...)`."""
    calls = [node for mark in marks for node in ast.walk(mark) if isinstance(node, ast.Call) and node.args]
    return any(
        ast.unparse(call.func).endswith("skipif") and ast.unparse(call.args[0]) == "not IS_FULL"
        for call in calls
    )


def _calls_of_promise(
    marks: list[ast.expr], path: str, test: str, is_full_scale: bool
) -> Iterator[PromiseMarker]:
    for node in (node for mark in marks for node in ast.walk(mark)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "promise":
            is_control = any(keyword.arg == "control" for keyword in node.keywords)
            for argument in node.args:
                yield PromiseMarker(ast.literal_eval(argument), is_control, path, test, is_full_scale)


def assign(promises: list[Promise], markers: list[PromiseMarker], root: Path) -> list[str]:
    """Give each promise its tests and controls. Return the problems, one line each."""
    problems = []
    by_text: dict[str, Promise] = {}
    for promise in promises:
        if promise.text in by_text:
            problems.append(f"{CATALOGUE}: {promise.text!r} is listed twice; remove one")
        by_text.setdefault(promise.text, promise)
    for marker in markers:
        if known := by_text.get(marker.text):
            (known.controls if marker.is_control else known.tests).append(marker)
        else:
            problems.append(
                f"{marker.path}: {marker.test} names the unknown promise {marker.text!r}; add it to {CATALOGUE}"
            )
    rows = _benchmark_rows(root)
    for promise in by_text.values():
        if promise.figure and not _figure(promise, rows):
            problems.append(
                f"{CATALOGUE}: {promise.text!r} has the figure {promise.figure!r}, which is not in {BENCHMARKS};"
                " name a row of that page"
            )
        # `make bench` checks a time or a ratio against its bar.
        if not promise.tests and not _figure(promise, rows):
            problems.append(
                f"{CATALOGUE}: {promise.text!r} has no test; mark one with @promise, or correct {promise.section}"
            )
        elif promise.tests and all(marker.is_full_scale for marker in promise.tests):
            problems.append(
                f"{CATALOGUE}: {promise.text!r} has only tests that need SCALE=full; mark one of every run"
            )
    for section in dict.fromkeys(promise.section for promise in promises):
        if not heading(root, section):
            problems.append(f"{CATALOGUE}: {section} does not exist; name the section that makes the promise")
    return problems


def heading(root: Path, section: str) -> str:
    """Return the heading at an address of the form "docs/page.md#anchor", or "" if there is none."""
    path, _, anchor = section.partition("#")
    text = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return next((heading for heading in headings if anchor_of(heading) == anchor), "")


def _benchmark_rows(root: Path) -> dict[str, list[str]]:
    lines = (root / BENCHMARKS).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row for row in cells}


def _figure(promise: Promise, rows: dict[str, list[str]]) -> str:
    """Return the promise's measured median and its bar, or "" if no benchmark row begins with its figure."""
    for name, (_, median, _, bar, *_) in rows.items():
        if promise.figure and name.startswith(promise.figure):
            return f"{median} (bar: {bar})" if bar else median
    return ""


def page(promises: list[Promise], root: Path) -> str:
    """Return the text of docs/promises.md."""
    sections: defaultdict[str, list[Promise]] = defaultdict(list)
    for promise in promises:
        sections[promise.section].append(promise)
    rows = _benchmark_rows(root)
    parts = [_HEAD]
    for section, listed in sections.items():
        path, _, anchor = section.partition("#")
        link = f"{path.removeprefix('docs/')}#{anchor}" if path.startswith("docs/") else f"../{section}"
        lines = [
            f"## {path.removeprefix('docs/')}: {heading(root, section)}",
            "",
            f"Promised in [{section}]({link}).",
            "",
            "| promise | tests | negative control | measured |",
            "|---|---|---|---|",
        ]
        for promise in listed:
            tests = "<br>".join(marker.link() for marker in promise.tests) or "`make bench`"
            controls = "<br>".join(marker.link() for marker in promise.controls)
            lines.append(f"| {promise.text} | {tests} | {controls} | {_figure(promise, rows)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> int:
    promises = read_catalogue((ROOT / CATALOGUE).read_text(encoding="utf-8"))
    markers = [
        marker
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for marker in read_markers(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    problems = assign(promises, markers, ROOT)
    for problem in problems:
        print(f"promises: {problem}", file=sys.stderr)
    text = page(promises, ROOT)
    is_stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
    is_check = "--check" in sys.argv
    if is_stale:
        print(f"promises: {'stale' if is_check else 'rendered'}: docs/{PAGE.name}")
        if not is_check:
            PAGE.write_text(text, encoding="utf-8")
    return 1 if problems or (is_stale and is_check) else 0


if __name__ == "__main__":
    sys.exit(main())
