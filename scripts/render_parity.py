"""Renders docs/parity.md from infra/spec/parity and the settings' declarations.

`python -m scripts.render_parity` writes, `--check` exits 1 where the page is stale.
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

# A bar of a cell, for it would end it.
BAR = r"\|"
PAGE = Path(__file__).parents[1] / "docs" / "parity.md"
_HEAD = """\
# Docker and AWS side by side

What a stack is on either target, and why where it differs. Rendered from `infra/spec/parity` by `make fix`; a test
asks for a row for each setting and each parameter. `make verify` holds a stack of either kind against the same
assertions ([aws-operations.md](aws-operations.md#verify)).

- The same on both: the row has one text in both columns.
- "—" is where a target has nothing of the kind; what stands after it takes its place.
"""


def page() -> str:
    """The page's text."""
    sections = [
        _HEAD,
        "## Properties",
        _table("property", PROPERTIES, named=False),
        "## Settings",
        "A setting without effect on a stack's target is refused.",
        _table("setting", {s.key: SETTINGS[s.key] for s in StackSettings.declarations()}),
        "## Parameters of Postgres",
        "On AWS they stand in the parameter group, in the units that RDS takes.",
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
    is_stale = not PAGE.exists() or PAGE.read_text() != page()
    if is_stale:
        check = "--check" in sys.argv
        print(f"parity: {'stale' if check else 'rendered'}: docs/{PAGE.name}")
        if check:
            return 1
        PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
