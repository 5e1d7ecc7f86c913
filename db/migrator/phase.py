"""Expand and contract: which side of a deploy a migration belongs to, and in which order the two may run.

An expand migration leaves running code working; a contract migration removes what only older code needs. The order
is always that of the versions: a phase that would have to jump over the other one's pending migration is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from db.migrator.errors import PhaseOrder

if TYPE_CHECKING:
    from db.migrator.source import Migration

Phase = Literal["expand", "contract"]
PHASES: tuple[Phase, ...] = get_args(Phase)
DEFAULT: Phase = "expand"
_HEADER = re.compile(r"--[ \t]*phase:[ \t]*(?P<phase>.*?)[ \t]*")


def header_lines(sql: str) -> Iterator[tuple[int, str]]:
    """The comment lines (numbered from 1) that a file begins with; blank lines between them do not end them."""
    for number, line in enumerate(sql.splitlines(), start=1):
        text = line.removeprefix("\ufeff") if number == 1 else line
        if text.startswith("--"):
            yield number, text
        elif text.strip():
            return


def declared_phases(sql: str) -> list[tuple[int, str]]:
    """(line, what it says) of each `-- phase: ...` among a file's first comments, whether or not it is a phase."""
    found = ((number, _HEADER.fullmatch(line)) for number, line in header_lines(sql))
    return [(number, match["phase"]) for number, match in found if match]


def phase_of(sql: str) -> Phase:
    """What the file's header says; expand where it says nothing that is a phase."""
    return next((phase for _, said in declared_phases(sql) for phase in PHASES if said == phase), DEFAULT)


def in_phase(pending: Sequence[Migration], phase: Phase | None) -> tuple[Migration, ...]:
    """Those of `pending` (by version) that belong to the phase; all of them for None.

    PhaseOrder, before anything runs, where one of them stands behind a pending migration of the other phase.
    """
    chosen: list[Migration] = []
    passed: list[Migration] = []
    for migration in pending:
        if phase is not None and migration.up.phase != phase:
            passed.append(migration)
        elif passed:
            raise _out_of_order(migration, chosen, passed)
        else:
            chosen.append(migration)
    return tuple(chosen)


def _out_of_order(late: Migration, chosen: list[Migration], passed: list[Migration]) -> PhaseOrder:
    first = chosen or passed
    step = f"`--phase {first[0].up.phase} --to {first[-1].version}`"
    why = "once no running code needs what it removes" if passed[0].up.phase == "contract" else "which adds"
    return PhaseOrder(
        f"{late.name} ({late.up.phase}) comes after {passed[0].name} ({passed[0].up.phase}), which is pending, and"
        f" migrations run in the order of their versions: begin with {step}, apply {passed[0].name} {why}, or run"
        " without --phase"
    )
