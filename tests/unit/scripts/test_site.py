"""The documentation as a site: links are rewritten, and every page has a place in the navigation."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.site.links import PAGES, ROOT, rewrite
from tests.cases import in_case

DOCS = ROOT / "docs"


def test_a_link_works_on_the_site() -> None:
    cases: list[tuple[Path, str, str, str]] = [
        (ROOT, "", "[a](docs/cli.md#commands)", "[a](cli.md#commands)"),
        (ROOT, "", "[a](LICENSE)", "`a`"),
        (ROOT, "", "![a](docs/images/report.png)", "![a](images/report.png)"),
        (DOCS, "", "[a](cli.md)", "[a](cli.md)"),
        (DOCS, "", "[a](../README.md#start)", "[a](start.md#start)"),
        (DOCS, "", "[a](../tests/promises.toml)", "`a`"),
        (DOCS, "", "[`a`](../tests/promises.toml)", "`a`"),
        (DOCS, "", "[a](missing.md)", "[a](missing.md)"),
        (DOCS, "", "[a](https://example.org/cli.md)", "[a](https://example.org/cli.md)"),
        (DOCS, "", "[a](#here)", "[a](#here)"),
        (DOCS / "adr", "../", "[a](0001-toolchain.md)", "[a](../adr/0001-toolchain.md)"),
        (DOCS / "adr", "../", "[a](../../CONTRIBUTING.md)", "[a](../contributing.md)"),
    ]
    for folder, prefix, markdown, rewritten in cases:
        with in_case(folder, prefix, markdown, rewritten):
            assert rewrite(markdown, folder, prefix=prefix) == rewritten


def test_the_navigation_has_every_page_once() -> None:
    """MkDocs warns too, but only `make docs` runs it."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    listed = re.findall(r"[\w-]+\.md", navigation)
    pages = {path.name for path in DOCS.glob("*.md")} | set(PAGES.values())
    assert sorted(listed) == sorted(pages)
