"""Hooks of MkDocs: pages from outside docs/, the decision records in the navigation, and links that lead out of docs/.

MkDocs loads this file; it is installed by `make docs` alone.
"""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File

from scripts.site.links import PAGES, ROOT, rewrite

DOCS = ROOT / "docs"


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages from outside docs/, and the decision records to the navigation."""
    for source, page in PAGES.items():
        files.append(
            File.generated(config, page, content=rewrite((ROOT / source).read_text(encoding="utf-8"), ROOT))
        )
    records = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / "adr").glob("*.md"))
    config["nav"].append({"Decisions": records})
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page in docs/."""
    source = page.file.src_uri
    if source in PAGES.values():
        return markdown
    return rewrite(markdown, (DOCS / source).parent, prefix="../" * source.count("/"))
