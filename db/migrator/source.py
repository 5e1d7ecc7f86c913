"""Reads the migrations folder by sqlx's rules, and refuses what sqlx would take without a word.

Nothing here connects: the folder alone says which migrations there are and what each one is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from db.migrator.errors import SourceError, WrongName
from db.migrator.phase import PHASES, Phase, declared_phases, phase_of
from db.migrator.script import Statement, line_at, split_statements

MIGRATIONS_FOLDER = Path(__file__).parents[1] / "migrations"

_VERSION = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64 = range(-(2**63), 2**63)
# At a file's first byte, exactly so: it runs outside a transaction.
NO_TRANSACTION = "-- no-transaction"
_SUFFIXES = {"up": ".up.sql", "down": ".down.sql", "simple": ".sql"}
# What would end the migrator's own transaction around a script, and with it the promise of all or nothing.
_TRANSACTION_CONTROL = re.compile(
    r"(?:begin|commit|end|rollback|abort|start transaction|prepare transaction)\b(?! (?:work |transaction )?to\b)"
)


# Made without a name, an index that was left INVALID could not be told from the one to be made.
_NAMELESS_INDEX = re.compile(r"create\s+(?:unique\s+)?index\s+concurrently\s+on\b", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """Why a script cannot be run as it stands: the line, from 1, the rule that it breaks, and what to do."""

    line: int
    rule: str
    message: str


@dataclass(frozen=True)
class Script:
    """One file of a migration: its text, and the SHA-384 of its raw bytes."""

    path: Path
    sql: str
    checksum: bytes

    @property
    def no_transaction(self) -> bool:
        return self.sql.startswith(NO_TRANSACTION)

    @property
    def phase(self) -> Phase:
        return phase_of(self.sql)

    @property
    def statements(self) -> tuple[Statement, ...]:
        return split_statements(self.sql)

    def line_of(self, statement: Statement, position: int = 1) -> int:
        """The file's line of a character (from 1, as the server counts) of one of its statements."""
        return line_at(self.sql, statement.offset + position - 1)

    def check(self) -> None:
        """SourceError unless the script can be run with the guarantees that its header asks for."""
        for problem in self.problems():
            raise SourceError(f"{self.path.name}:{problem.line}: {problem.message}")

    def problems(self) -> Iterator[Problem]:
        """Why the script cannot be run with the guarantees that its header asks for."""
        yield from self._phase_problems()
        if self.no_transaction:
            for statement in self.statements[1:2]:
                yield Problem(
                    self.line_of(statement),
                    "no-transaction",
                    "a no-transaction migration holds one statement, this is its second; half of it could stay"
                    " applied. Give each statement a migration of its own",
                )
            for statement in self.statements:
                if _NAMELESS_INDEX.match(statement.text):
                    yield Problem(
                        self.line_of(statement),
                        "nameless-index",
                        "an index that is made concurrently needs a name, by which a half-made one is found again;"
                        " give it one",
                    )
            return
        for statement in self.statements:
            if _TRANSACTION_CONTROL.match(statement.head):
                yield Problem(
                    self.line_of(statement),
                    "transaction-control",
                    f"`{first_line(statement.text)}` would end the transaction that the migration runs in; take it"
                    " out",
                )

    def _phase_problems(self) -> Iterator[Problem]:
        declared = declared_phases(self.sql)
        for line, said in declared:
            if said not in PHASES:
                wanted = "write `-- phase: expand` or `-- phase: contract`"
                yield Problem(line, "phase", f"{said!r} is no phase; {wanted}")
        for line, said in declared[1:]:
            if said != declared[0][1]:
                yield Problem(
                    line, "phase", "a migration has one phase, this is its second; keep one of them"
                )


@dataclass(frozen=True)
class Migration:
    """One version: what applies it and, for a reversible one, what takes it back."""

    version: int
    description: str
    up: Script
    down: Script | None

    @property
    def name(self) -> str:
        """The file's name without its suffix: `0003_users`."""
        return _stem(self.up.path.name)

    @property
    def checksum(self) -> bytes:
        return self.up.checksum


def read_source(folder: Path = MIGRATIONS_FOLDER) -> tuple[Migration, ...]:
    """The migrations of a folder (not of folders in it), by version. SourceError names what is wrong.
    WrongName for a folder that cannot be read.

    Source: sqlx-core 0.8, src/migrate/source.rs. Beyond it, two files of one version and kind are refused,
    and so is a down file without its up file.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as exc:
        raise WrongName(
            f"the migrations folder {folder} cannot be read ({exc.strerror}); name another or make it"
        ) from exc
    found: dict[tuple[int, str], Path] = {}
    for path in paths:
        prefix, separator, rest = path.name.partition("_")
        if not separator or not rest.endswith(".sql"):
            continue
        version = _version(prefix, path)
        kind = next(kind for kind, suffix in _SUFFIXES.items() if rest.endswith(suffix))
        # An up file and a simple one would both apply the version.
        key = (version, "down" if kind == "down" else "up")
        if key in found:
            raise SourceError(
                f"{found[key].name} and {path.name} are both version {version}; give one of them a new number"
            )
        found[key] = path
    return tuple(_migrations(found))


def require_version(version: int, migrations: Iterable[Migration]) -> Migration:
    """The migration of that version. WrongName where no file has it."""
    by_version = {m.version: m for m in migrations}
    if version not in by_version:
        raise WrongName(
            f"there is no migration of version {version}; the newest is {max(by_version, default=None)}"
        )
    return by_version[version]


def first_line(text: str, width: int = 80) -> str:
    """The first line of a statement, for one line of a message."""
    line = text.strip().split("\n", 1)[0].rstrip()
    return line if len(line) <= width and line == text.strip() else line[: width - 3].rstrip() + "..."


def _migrations(found: dict[tuple[int, str], Path]) -> Iterable[Migration]:
    for version in sorted({version for version, _ in found}):
        up, down = found.get((version, "up")), found.get((version, "down"))
        if up is None:
            assert down is not None
            raise SourceError(f"{down.name} has no up file; add {_stem(down.name)}.up.sql or remove it")
        if down is not None and not up.name.endswith(_SUFFIXES["up"]):
            raise SourceError(f"{up.name} has a down file, {down.name}; name it {_stem(up.name)}.up.sql")
        yield Migration(version, _description(up.name), _script(up), None if down is None else _script(down))


def _version(prefix: str, path: Path) -> int:
    # int() alone takes blanks, underscores and other scripts' digits, which sqlx refuses.
    if not _VERSION.fullmatch(prefix) or int(prefix) not in _INT64:
        raise SourceError(
            f"{path.name} does not begin with a version; name it like 0007_{path.name.partition('_')[2]}"
            " (a whole number of 64 bits), or without an underscore if it is no migration"
        )
    return int(prefix)


def _script(path: Path) -> Script:
    try:
        raw = path.read_bytes()
        sql = raw.decode("utf-8")
    except OSError as exc:
        raise SourceError(f"{path} cannot be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path.name} is not UTF-8 (byte {exc.start}); save it as UTF-8") from exc
    return Script(path, sql, hashlib.sha384(raw).digest())


def _suffix(name: str) -> str:
    return next(suffix for suffix in _SUFFIXES.values() if name.endswith(suffix))


def _stem(name: str) -> str:
    return name.removesuffix(_suffix(name))


def _description(name: str) -> str:
    rest, suffix = name.partition("_")[2], _suffix(name)
    # As sqlx does, which takes a suffix off as often as it stands there.
    while rest.endswith(suffix):
        rest = rest.removesuffix(suffix)
    return rest.replace("_", " ")
