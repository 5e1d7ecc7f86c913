"""Links of a Markdown page, rewritten for the site.

README.md and CONTRIBUTING.md become the pages start.md and contributing.md. The site also contains the pages and images
of docs/. A link to another file of the repository becomes code.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A file of the repository -> its page on the site.
PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:)([^)\s#]+)(#[^)\s]*)?\)")


def rewrite(markdown: str, folder: Path, *, prefix: str = "") -> str:
    """Return the text of a page in `folder` with links that work on the site.

    `prefix` leads from the page's folder on the site to the root of the site. A link to a missing file is not
    changed, so that MkDocs reports it.
    """

    def replace(match: re.Match[str]) -> str:
        label, path, anchor = match[1], match[2], match[3] or ""
        target = (folder / path).resolve()
        if not target.exists() or not target.is_relative_to(ROOT):
            return match[0]
        file = target.relative_to(ROOT).as_posix()
        if page := PAGES.get(file):
            return f"[{label}]({prefix}{page}{anchor})"
        if file.startswith("docs/") and target.suffix in (".md", ".png"):
            return f"[{label}]({prefix}{file.removeprefix('docs/')}{anchor})"
        return label if label.startswith("`") else f"`{label}`"

    return _LINK.sub(replace, markdown)
