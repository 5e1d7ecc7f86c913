"""Read the migrations folder by sqlx's rules, and reject some files that sqlx would accept silently.

Nothing here connects to a database.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from db.migrator.errors import SourceError, UnknownMigration
from db.migrator.phase import PHASES, Phase, declared_phases, late_phases, phase_of
from db.migrator.script import Statement, line_at, split_statements
from db.migrator.statement_problems import notable, problem_of
from db.migrator.transactions import Transaction, transactions_of

MIGRATIONS_FOLDER = Path(__file__).parents[1] / "migrations"

_VERSION = re.compile(r"[+-]?[0-9]+", re.ASCII)
_INT64 = range(-(2**63), 2**63)
# A file that begins with exactly these bytes runs outside a transaction.
NO_TRANSACTION = "-- no-transaction"
PHASE_RULE = "phase"
_SUFFIXES = {"up": ".up.sql", "down": ".down.sql", "simple": ".sql"}


@dataclass(frozen=True)
class ScriptProblem:
    """An error or a risk in a script: the line, from 1, the violated rule, and what to do.

    A script with a problem that is not `is_fatal` runs, as it does in sqlx.
    """

    line: int
    rule: str
    message: str
    is_fatal: bool = True


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
    def transactions(self) -> tuple[Transaction, ...]:
        """The transactions of a script that does not run alone. There is at least one."""
        return transactions_of(self.statements)

    @property
    def runs_alone(self) -> bool:
        """True if the script is one statement that may have to run outside a transaction."""
        return self.no_transaction and len(self.statements) == 1

    @property
    def is_atomic(self) -> bool:
        """True if the script runs in one transaction together with its row in the ledger."""
        return not self.runs_alone and not self.has_several_transactions

    @property
    def has_several_transactions(self) -> bool:
        """True if the script commits or rolls back itself before its row in the ledger is written."""
        return not self.runs_alone and not (len(self.transactions) == 1 and self.transactions[0].commits)

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
        """Raise SourceError if the script has a problem with which it cannot be run."""
        for problem in self.problems:
            if problem.is_fatal:
                raise self.refusal(problem)

    def check_phase(self) -> None:
        """Raise SourceError if the script's phase is not certain. Without `--phase` that does not matter."""
        for problem in self.problems:
            if problem.rule == PHASE_RULE:
                raise self.refusal(problem)

    def refusal(self, problem: ScriptProblem) -> SourceError:
        return SourceError(f"{self.path.name}:{problem.line}: {problem.message}")

    @cached_property
    def problems(self) -> tuple[ScriptProblem, ...]:
        """The problems of the script that can be found without a server."""
        return (*self._phase_problems(), *self._statement_problems())

    def _statement_problems(self) -> Iterator[ScriptProblem]:
        runs_alone, is_atomic = self.runs_alone, self.is_atomic
        runs_in_transaction = is_joined = self.no_transaction and len(self.statements) > 1
        for statement in notable(self.statements):
            found = problem_of(statement, runs_alone=runs_alone, is_joined=is_joined, is_atomic=is_atomic)
            if found is not None:
                rule, message, is_fatal = found
                runs_in_transaction &= not is_fatal
                yield ScriptProblem(self.line_of(statement), rule, message, is_fatal)
        if runs_in_transaction:
            yield ScriptProblem(
                self.line_of(self.statements[1]),
                "no-transaction",
                "a no-transaction file of several statements runs in a transaction all the same; remove the header, or"
                " put each statement into its own migration",
                is_fatal=False,
            )

    def _phase_problems(self) -> Iterator[ScriptProblem]:
        declared = declared_phases(self.sql)
        for line, said in declared:
            if said not in PHASES:
                wanted = "write `-- phase: expand` or `-- phase: contract`"
                yield ScriptProblem(line, PHASE_RULE, f"{said!r} is not a phase; {wanted}", is_fatal=False)
        for line, said in declared[1:]:
            if said != declared[0][1]:
                message = "a migration has only one phase, and this is its second; keep one of them"
                yield ScriptProblem(line, PHASE_RULE, message, is_fatal=False)
        for line in late_phases(self.sql):
            message = "a phase header has no effect here; move it to the file's first comments"
            yield ScriptProblem(line, PHASE_RULE, message, is_fatal=False)


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
    folder: Path = MIGRATIONS_FOLDER,
    ignored_chars: str = "",
    *,
    skips_bad_files: bool = False,
    warn: Callable[[str], None] = lambda message: None,
) -> tuple[Migration, ...]:
    """Return the migrations of a folder, without subfolders, ordered by version.

    Follows sqlx-core 0.9, src/migrate/source.rs; `ignored_chars` do not count for the checksums. In addition, it
    rejects two files of the same version and kind. With `skips_bad_files` it leaves out a link to a file that does not
    exist, and a file whose name does not begin with a version, instead of rejecting them. `warn` is called for each
    down file without an up file.

    Raises SourceError for an invalid file, and UnknownMigration if the folder cannot be read.
    """
    return tuple(_migrations(_files(folder, skips_bad_files=skips_bad_files), ignored_chars, warn))


def short_checksums(migrations: Iterable[Migration]) -> dict[str, str]:
    """Return the first 16 digits of each migration's checksum, by the migration's name."""
    return {migration.name: migration.checksum.hex()[:16] for migration in migrations}


def newest_version(folder: Path) -> int | None:
    """Return the highest version in a folder, also of a down file without an up file. Raises as read_source does."""
    return max((version for version, _ in _files(folder)), default=None)


def _files(folder: Path, *, skips_bad_files: bool = False) -> dict[tuple[int, str], Path]:
    """Return the files of a folder by version and by `up` or `down`."""
    try:
        paths = sorted(folder.iterdir())
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
            if not _is_file(path):
                continue
            version = version_of(path)
        except SourceError:
            if skips_bad_files:
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
    return found


def _is_file(path: Path) -> bool:
    """Return whether it is a file, or a link to one. Raises SourceError if it cannot be read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as exc:
        if path.is_symlink():
            raise SourceError(
                f"{path.name} is a link to {path.readlink()}, which cannot be read: {exc.strerror}; restore that file,"
                " or remove the link"
            ) from exc
        raise SourceError(f"cannot read {path}: {exc.strerror}") from exc


def checksum_of(raw: bytes, ignored_chars: str) -> bytes:
    """Return the SHA-384 of a file's content, which is UTF-8, without the ignored characters."""
    if ignored_chars:
        raw = raw.decode("utf-8").translate(dict.fromkeys(map(ord, ignored_chars))).encode()
    return hashlib.sha384(raw).digest()


def require_version(version: int, migrations: Iterable[Migration]) -> Migration:
    """Return the migration of that version. Raises UnknownMigration if there is none."""
    by_version = {m.version: m for m in migrations}
    if version not in by_version:
        existing = f"the newest is {max(by_version)}" if by_version else "the folder has no migrations"
        raise UnknownMigration(f"there is no migration of version {version}; {existing}")
    return by_version[version]


def _migrations(
    found: dict[tuple[int, str], Path], ignored_chars: str, warn: Callable[[str], None]
) -> Iterable[Migration]:
    for version in sorted({version for version, _ in found}):
        up, down = found.get((version, "up")), found.get((version, "down"))
        if up is None:
            assert down is not None
            warn(f"{down.name} has no up file, so it is ignored; add {_stem(down.name)}.up.sql or remove it")
            continue
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
    # As sqlx does, which reads any name as UTF-8, and removes the suffix repeatedly.
    name = os.fsencode(name).decode("utf-8", "replace")
    rest, suffix = name.partition("_")[2], _suffix(name)
    while rest.endswith(suffix):
        rest = rest.removesuffix(suffix)
    return rest.replace("_", " ")
