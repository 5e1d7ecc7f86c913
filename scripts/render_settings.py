"""Renders the settings into Pulumi.yaml's config schema and the README's table.

`python -m scripts.render_settings` writes, `--check` exits 1 where a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from infra.settings import StackSettings

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- settings: rendered -->", "<!-- /settings -->"
PULUMI_HEAD = """\
name: groundwork
description: Postgres 15 and Redis 7, roles, schema and pooled access
# Plain: with `main`, a virtualenv option would be looked for below infra/ by dynamic providers.
runtime: python
main: infra
# Rendered from infra/settings by `make fix`.
config:
"""


def pulumi_yaml() -> str:
    """Pulumi.yaml, whose config section declares every setting with type, default and description."""
    lines = [PULUMI_HEAD]
    for setting in StackSettings.declarations():
        lines.append(
            f"  groundwork:{setting.key}:\n"
            f"    type: {setting.type}\n"
            f"    default: {json.dumps(setting.default)}\n"
            f"    description: {json.dumps(setting.description)}\n"
        )
    return "".join(lines)


def readme(text: str) -> str:
    """The README with its settings table rendered between the two markers."""
    rows = [
        f"| `{s.key}` | {s.type} | {f'`{json.dumps(s.default)}`'} | {' and '.join(s.targets)}"
        f" | {s.description.replace('|', chr(92) + '|')} |"
        for s in StackSettings.declarations()
    ]
    table = "\n".join(["| setting | type | default | target | meaning |", "|---|---|---|---|---|", *rows])
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def main() -> int:
    stale = []
    wanted = {ROOT / "Pulumi.yaml": pulumi_yaml()}
    readme_path = ROOT / "README.md"
    if readme_path.exists():
        wanted[readme_path] = readme(readme_path.read_text())
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale:
        print(f"settings: {'stale' if '--check' in sys.argv else 'rendered'}: {', '.join(stale)}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
