"""Check that every entity of db/entities.py has all of its parts, and print each missing one with its place.

Nothing is imported, so that a missing part does not prevent the check. `make check` runs it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_QUERIES = (
    "find_{0}", "find_{1}", "list_{1}", "count_{1}", "find_{0}_versions", "add_{0}", "update_{0}", "patch_{0}",
    "lock_{0}", "delete_{0}", "delete_{1}",
)  # fmt: skip
_KEY_QUERIES = ("find_{0}_by_{2}", "upsert_{0}", "upsert_{1}")
# What the migrations must contain: a pattern for a statement with single blanks, and its description in messages.
_TABLE = {
    r"CREATE TABLE {1} \(": "CREATE TABLE {1}",
    r"CREATE (OR REPLACE )?TRIGGER \w+ BEFORE INSERT ON {1} .*start_row_version\(\)": (
        "a trigger BEFORE INSERT ON {1} that calls start_row_version()"
    ),
    r"CREATE (OR REPLACE )?TRIGGER \w+ BEFORE UPDATE ON {1} .*keep_(\w+_)?row_version\(\)": (
        "a trigger BEFORE UPDATE ON {1} that calls keep_row_version()"
    ),
    **{
        rf"CREATE (OR REPLACE )?TRIGGER \w+ AFTER {verb} ON {{1}} .*write_(changed_)?record_outbox\('{{0}}'\)": (
            f"a trigger AFTER {verb} ON {{1}} that calls write_record_outbox('{{0}}')"
        )
        for verb in ("INSERT", "UPDATE", "DELETE")
    },
    r"CREATE (OR REPLACE )?TRIGGER \w+ BEFORE TRUNCATE ON {1} .*write_truncated_outbox\('{0}', 'id'\)": (
        "a trigger BEFORE TRUNCATE ON {1} that calls write_truncated_outbox('{0}', 'id')"
    ),
    r"GRANT SELECT, INSERT, UPDATE, DELETE ON {1} TO app": "the grants of {1} to app",
    r"GRANT SELECT (\([^)]*\) )?ON {1} TO readonly": "a grant of SELECT on {1} to readonly",
}  # fmt: skip


def problems(root: Path = ROOT) -> Iterator[str]:
    """Yield a line for each missing part of an entity, and for each part whose entity is not in db/entities.py."""
    entities = dict(re.findall(r'Entity\("(\w+)", "(\w+)"\)', _read(root / "db/entities.py")))
    feeds = re.findall(r'"(\w+)": ', _read(root / "db/entities.py").partition("FEEDS: ")[2])
    migrations, kinds = _statements(root), _kinds(root)
    for name, plural in entities.items():
        yield from _problems_of(root, migrations, kinds, name, plural)
    for plural in kinds:
        if plural not in entities.values():
            yield f"db/entities.py: no Entity(..., {plural!r}), but db/_async has its KIND"
    for name in sorted(set(re.findall(r"write_(?:\w+_)?outbox\('(\w+)'", migrations))):
        if name not in (*entities, *feeds):
            yield f"db/entities.py: no entity or feed {name!r}, but a trigger in db/migrations records it"


def _problems_of(root: Path, migrations: str, kinds: dict[str, str], name: str, plural: str) -> Iterator[str]:
    model = "".join(part.capitalize() for part in name.split("_"))
    key = kinds.get(plural)
    for pattern, said in _TABLE.items():
        if not re.search(pattern.replace("{0}", name).replace("{1}", plural), migrations):
            yield f"db/migrations: no {said.format(name, plural).removeprefix('a ')} in any up file"
    models = _names(root / "db/models.py")
    for each in (model, f"New{model}", f"{name.upper()}_SCHEMA"):
        if each not in models:
            yield f"db/models.py: no {each}"
    queries = re.findall(r"^-- name: (\w+) :", _read(root / f"db/queries/{plural}.sql"), re.MULTILINE)
    for query in (*_QUERIES, *(_KEY_QUERIES if key else ())):
        if query.format(name, plural, key) not in queries:
            yield f"db/queries/{plural}.sql: no query {query.format(name, plural, key)}"
    module = f"db/_async/{plural}.py"
    if key is None:
        yield f"{module}: no KIND = RecordKind({name!r}, {plural!r}, ...)"
    if f"Async{model}Repository" not in _names(root / module):
        yield f"{module}: no class Async{model}Repository"
    if f"self.{plural} = Async{model}Repository(" not in _read(root / "db/_async/access.py"):
        yield f"db/_async/access.py: no line self.{plural} = Async{model}Repository(...)"
    if "CASE" not in _names(root / f"tests/entities/{plural}.py"):
        yield f"tests/entities/{plural}.py: no CASE with values for the tests"


def _kinds(root: Path) -> dict[str, str]:
    """Return the plural and the natural key (or an empty string) of each KIND in db/_async."""
    found = {}
    for path in sorted((root / "db/_async").glob("*.py")):
        for node in ast.parse(_read(path)).body:
            call = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if not isinstance(call, ast.Call) or not re.match(r"KIND\b", ast.unparse(node)):
                continue
            names = [ast.literal_eval(each) for each in call.args if isinstance(each, ast.Constant)]
            if len(names) > 1:
                found[str(names[1])] = str(names[2]) if len(names) > 2 else ""
    return found


def _statements(root: Path) -> str:
    """Return the statements of all up files, one a line, without comments and with single blanks."""
    lines = []
    for path in sorted((root / "db/migrations").glob("*.up.sql")):
        text = re.sub(r"--[^\n]*", "", _read(path))
        lines += [" ".join(statement.split()) for statement in text.split(";")]
    return "\n".join(lines)


def _names(path: Path) -> set[str]:
    """Return the classes and constants that a module defines; none if it does not exist."""
    names = set()
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
    return names


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    lines = list(problems())
    for line in lines:
        print(line)
    if lines:
        print(
            "`groundwork new entity` writes all parts of an entity; CONTRIBUTING.md describes them",
            file=sys.stderr,
        )
    sys.exit(bool(lines))
