"""Render the settings into Pulumi.yaml's config schema and the tables of docs/settings.md.

`python -m scripts.render_settings` writes, `--check` exits 1 if a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from infra.settings import StackSettings
from infra.settings.declaration import TARGETS, Setting

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
BEGIN, END = "<!-- settings: rendered -->", "<!-- /settings -->"
BAR = r"\|"
PULUMI_HEAD = """\
name: groundwork
description: Postgres 15 and Redis 7, roles, schema and pooled access
# No `virtualenv` option: with `main`, dynamic providers would look for the environment below infra/.
runtime: python
main: infra
# Rendered from infra/settings by `make fix`.
config:
"""


def pulumi_yaml() -> str:
    """Return Pulumi.yaml, whose config section declares every setting with type, default and description."""
    lines = [PULUMI_HEAD]
    for setting in StackSettings.declarations():
        lines.append(
            f"  groundwork:{setting.key}:\n"
            f"    type: {setting.type}\n"
            f"    default: {json.dumps(setting.default)}\n"
            f"    description: {json.dumps(setting.description)}\n"
        )
    return "".join(lines)


def settings_page(text: str) -> str:
    """Return docs/settings.md with its tables rendered between the two markers."""
    declarations = StackSettings.declarations()
    sections = [
        ("For both targets", [s for s in declarations if s.targets == TARGETS]),
        ("For Docker", [s for s in declarations if s.targets == ("docker",)]),
        ("For AWS", [s for s in declarations if s.targets == ("aws",)]),
    ]
    tables = "\n\n".join(f"## {title}\n\n{_table(settings)}" for title, settings in sections)
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n{tables}\n{END}{rest.split(END, 1)[1]}"


def _table(settings: list[Setting]) -> str:
    rows = [
        f"| `{s.key}` | {s.type} | `{json.dumps(s.default)}` | {s.description.replace('|', BAR)} |"
        for s in settings
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])


def main() -> int:
    stale = []
    wanted = {ROOT / "Pulumi.yaml": pulumi_yaml(), PAGE: settings_page(PAGE.read_text(encoding="utf-8"))}
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"settings: {'stale' if '--check' in sys.argv else 'rendered'}: {', '.join(stale)}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
