"""Render docs/parity.md from infra/spec/parity and the settings' declarations.

`python -m scripts.render_parity` writes, `--check` exits 1 if the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from infra.settings import StackSettings
from infra.spec.parity.entry import Parity
from infra.spec.parity.parameters import postgres_parameters, redis_parameters
from infra.spec.parity.properties import PROPERTIES
from infra.spec.parity.settings import SETTINGS

# A bar would end a cell of a table.
BAR = r"\|"
PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
_HEAD = """\
# Docker and AWS side by side

This page compares a stack on Docker with one on AWS: properties, settings, and parameters of the servers. Read it
before you move a stack to AWS, or to see what a setting becomes there. For example, `postgresMemory` limits a
container on Docker; on AWS the instance class decides.

- If both columns have the same text, the targets do not differ.
- "—" means that the target has nothing of this kind; the text after it names what replaces it.

`make verify` checks stacks of both targets with the same assertions ([aws-operations.md](aws-operations.md#verify)).
The tables are rendered from `infra/spec/parity` by `make fix`; a test requires a row for each setting and parameter.
"""


def page() -> str:
    """Return the page's text."""
    sections = [
        _HEAD,
        "## Properties",
        _table("property", PROPERTIES, named=False),
        "## Settings",
        "A setting that has no effect on a stack's target is refused.",
        _table("setting", {s.key: SETTINGS[s.key] for s in StackSettings.declarations()}),
        "## Parameters of Postgres",
        "On AWS they are in the parameter group, in the units that RDS uses.",
        _table("parameter", postgres_parameters()),
        "## Directives of Redis",
        _table("directive", redis_parameters()),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _table(what: str, rows: Mapping[str, Parity], *, named: bool = True) -> str:
    lines = [f"| {what} | Docker | AWS | why it differs |", "|---|---|---|---|"]
    for name, row in rows.items():
        cells = (f"`{name}`" if named else name, row.docker, row.aws, row.why)
        lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    return "\n".join(lines)


def main() -> int:
    is_stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page()
    if is_stale:
        check = "--check" in sys.argv
        print(f"parity: {'stale' if check else 'rendered'}: docs/{PAGE.name}")
        if check:
            return 1
        PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
