"""Read the migrations folder by sqlx's rules, and reject some files that sqlx would accept silently.

Nothing here connects to a database.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from db.migrator.errors import SourceError, UnknownMigration
from db.migrator.phase import PHASES, Phase, declared_phases, phase_of
from db.migrator.script import Statement, line_at, split_statements

MIGRATIONS_FOLDER = Path(__file__).parents[1] / "migrations"

_VERSION = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64 = range(-(2**63), 2**63)
# A file that begins with exactly these bytes runs outside a transaction.
NO_TRANSACTION = "-- no-transaction"
_SUFFIXES = {"up": ".up.sql", "down": ".down.sql", "simple": ".sql"}
# Statements that would end the migrator's transaction around a script, which would then not be atomic.
_TRANSACTION_CONTROL = re.compile(
    r"(?:begin|commit|end|rollback|abort|start transaction|prepare transaction)\b(?! (?:work |transaction )?to\b)"
)


# Without a name, an INVALID index left by a failed attempt could not be identified.
_NAMELESS_INDEX = re.compile(r"create\s+(?:unique\s+)?index\s+concurrently\s+on\b", re.IGNORECASE)


@dataclass(frozen=True)
class ScriptProblem:
    """A reason why a script cannot be run: the line, from 1, the violated rule, and what to do."""

    line: int
    rule: str
    message: str


@dataclass(frozen=True)
class Script:
    """One file of a migration: its text, and the SHA-384 of its raw bytes without `ignored_chars`."""

    path: Path
    sql: str
    checksum: bytes
    ignored_chars: str = ""

    @property
    def no_transaction(self) -> bool:
        return self.sql.startswith(NO_TRANSACTION)

    @property
    def phase(self) -> Phase:
        return phase_of(self.sql)

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        return split_statements(self.sql)

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.sql)]

    def line_of(self, statement: Statement, position: int = 1) -> int:
        """Return the line in the file of a statement's character `position`, from 1, as the server counts."""
        return self.line_at(statement.offset + position - 1)

    def line_at(self, offset: int) -> int:
        """Return the line, from 1, of an offset in the file."""
        return bisect_left(self._line_ends, offset) + 1

    def check(self) -> None:
        """Raise SourceError if the script cannot be run with the guarantees of its header."""
        for problem in self.problems():
            raise SourceError(f"{self.path.name}:{problem.line}: {problem.message}")

    def problems(self) -> Iterator[ScriptProblem]:
        """Yield the reasons why the script cannot be run with the guarantees of its header."""
        yield from self._phase_problems()
        if self.no_transaction:
            for statement in self.statements[1:2]:
                yield ScriptProblem(
                    self.line_of(statement),
                    "no-transaction",
                    "a no-transaction migration must have only one statement, because a failure at the second would"
                    " leave the first applied; put each statement into its own migration",
                )
            for statement in self.statements:
                if _NAMELESS_INDEX.match(statement.text):
                    yield ScriptProblem(
                        self.line_of(statement),
                        "nameless-index",
                        "CREATE INDEX CONCURRENTLY needs an index name, to find an incomplete index after a failure;"
                        " give it one",
                    )
            return
        for statement in self.statements:
            if _TRANSACTION_CONTROL.match(statement.head):
                yield ScriptProblem(
                    self.line_of(statement),
                    "transaction-control",
                    f"`{first_line(statement.text)}` would end the transaction that the migration runs in; remove it",
                )

    def _phase_problems(self) -> Iterator[ScriptProblem]:
        declared = declared_phases(self.sql)
        for line, said in declared:
            if said not in PHASES:
                wanted = "write `-- phase: expand` or `-- phase: contract`"
                yield ScriptProblem(line, "phase", f"{said!r} is not a phase; {wanted}")
        for line, said in declared[1:]:
            if said != declared[0][1]:
                yield ScriptProblem(
                    line, "phase", "a migration has only one phase, and this is its second; keep one of them"
                )


@dataclass(frozen=True)
class Migration:
    """One version: the script that applies it and, if it is reversible, the script that reverts it."""

    version: int
    description: str
    up: Script
    down: Script | None

    @property
    def name(self) -> str:
        """The name of the up file without its suffix, such as `0003_users`."""
        return _stem(self.up.path.name)

    @property
    def checksum(self) -> bytes:
        return self.up.checksum


def read_source(
    folder: Path = MIGRATIONS_FOLDER, ignored_chars: str = "", *, skips_bad_versions: bool = False
) -> tuple[Migration, ...]:
    """Return the migrations of a folder, without subfolders, ordered by version.

    Follows sqlx-core 0.9, src/migrate/source.rs; `ignored_chars` do not count for the checksums. In addition, it
    rejects two files of the same version and kind, and a down file without its up file. With `skips_bad_versions` it
    leaves out a file whose name does not begin with a version, instead of rejecting it.

    Raises SourceError for an invalid file, and UnknownMigration if the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as exc:
        raise UnknownMigration(
            f"cannot read the migrations folder {folder}: {exc.strerror}; create it or pass another"
        ) from exc
    found: dict[tuple[int, str], Path] = {}
    for path in paths:
        _, separator, rest = path.name.partition("_")
        if not separator or not rest.endswith(".sql"):
            continue
        try:
            version = version_of(path)
        except SourceError:
            if skips_bad_versions:
                continue
            raise
        kind = next(kind for kind, suffix in _SUFFIXES.items() if rest.endswith(suffix))
        # NAME.up.sql and NAME.sql would both apply the version.
        key = (version, "down" if kind == "down" else "up")
        if key in found:
            raise SourceError(
                f"{found[key].name} and {path.name} are both version {version}; give one of them a new number"
            )
        found[key] = path
    return tuple(_migrations(found, ignored_chars))


def checksum_of(raw: bytes, ignored_chars: str) -> bytes:
    """Return the SHA-384 of a file's content, which is UTF-8, without the ignored characters."""
    if ignored_chars:
        raw = raw.decode("utf-8").translate(dict.fromkeys(map(ord, ignored_chars))).encode()
    return hashlib.sha384(raw).digest()


def require_version(version: int, migrations: Iterable[Migration]) -> Migration:
    """Return the migration of that version. Raises UnknownMigration if there is none."""
    by_version = {m.version: m for m in migrations}
    if version not in by_version:
        raise UnknownMigration(
            f"there is no migration of version {version}; the newest is {max(by_version, default=None)}"
        )
    return by_version[version]


def first_line(text: str, width: int = 80) -> str:
    """Return the first line of a statement, shortened for a message."""
    line = text.strip().split("\n", 1)[0].rstrip()
    return line if len(line) <= width and line == text.strip() else line[: width - 3].rstrip() + "..."


def _migrations(found: dict[tuple[int, str], Path], ignored_chars: str) -> Iterable[Migration]:
    for version in sorted({version for version, _ in found}):
        up, down = found.get((version, "up")), found.get((version, "down"))
        if up is None:
            assert down is not None
            raise SourceError(f"{down.name} has no up file; add {_stem(down.name)}.up.sql or remove it")
        if down is not None and not up.name.endswith(_SUFFIXES["up"]):
            raise SourceError(f"{up.name} has a down file, {down.name}; name it {_stem(up.name)}.up.sql")
        scripts = (_script(up, ignored_chars), None if down is None else _script(down, ignored_chars))
        yield Migration(version, _description(up.name), *scripts)


def version_of(path: Path) -> int:
    """Return the version that a file's name begins with. Raises SourceError if it is not valid."""
    prefix = path.name.partition("_")[0]
    # int() alone accepts blanks, underscores and non-ASCII digits, which sqlx rejects.
    if not _VERSION.fullmatch(prefix) or int(prefix) not in _INT64:
        raise SourceError(
            f"{path.name} does not begin with a version; name it like 0007_{path.name.partition('_')[2]}"
            " (a 64-bit integer), or without an underscore if it is not a migration"
        )
    return int(prefix)


def _script(path: Path, ignored_chars: str) -> Script:
    try:
        raw = path.read_bytes()
        sql = raw.decode("utf-8")
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SourceError(f"{path.name} is not UTF-8 (byte {exc.start}); save it as UTF-8") from exc
    if (place := sql.find("\0")) >= 0:
        # The driver passes a statement as a C string, so the server would run only its beginning.
        raise SourceError(
            f"{path.name}:{line_at(sql, place)}: contains a NUL byte, at which the statement would be cut off;"
            " remove it, or save the file as UTF-8"
        )
    return Script(path, sql, checksum_of(raw, ignored_chars), ignored_chars)


def _suffix(name: str) -> str:
    return next(suffix for suffix in _SUFFIXES.values() if name.endswith(suffix))


def _stem(name: str) -> str:
    return name.removesuffix(_suffix(name))


def _description(name: str) -> str:
    rest, suffix = name.partition("_")[2], _suffix(name)
    # As sqlx does, which removes the suffix repeatedly.
    while rest.endswith(suffix):
        rest = rest.removesuffix(suffix)
    return rest.replace("_", " ")
