"""The superuser reads and executes nothing that another role owns: its owner could replace it by their own code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.docker.engine import DockerError, psql
from tests.cases import in_case
from tests.promises import promise

ROOT = Path(__file__).parents[3]
# Every superuser session goes through these functions, in the servers of a stack and in temporary ones.
AS_SUPERUSER = {"psql": 1, "superuser_rows": 0}
# An object in the application's schema, as a literal or by the constant that names the schema.
OWNED_BY_OTHERS = re.compile(r"(\bgroundwork|\{(roles\.|spec\.)?SCHEMA\})\.\w|_sqlx_migrations")


def superuser_statements(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the SQL of each call, with names replaced by what the module assigns to them."""
    tree = ast.parse(source)
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node.value)

    def text_of(expression: ast.expr, depth: int = 0) -> str:
        names = [each.id for each in ast.walk(expression) if isinstance(each, ast.Name)]
        known = [value for name in names if depth < 4 for value in assigned.get(name, [])]
        return " ".join([ast.unparse(expression), *(text_of(value, depth + 1) for value in known)])

    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            # A method of a server takes no container.
            position = 0 if isinstance(node.func, ast.Attribute) else AS_SUPERUSER.get(name, 0)
            if name in AS_SUPERUSER and len(node.args) > position:
                yield node.lineno, text_of(node.args[position])


@promise("no superuser session of a stack reads or executes what another role owns")
def test_no_superuser_statement_names_an_object_of_the_application() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": sql
        for folder in ("infra", "ops")
        for path in (ROOT / folder).rglob("*.py")
        # Parsing every file would take seconds.
        if any(name in (source := path.read_text()) for name in AS_SUPERUSER)
        for line, sql in superuser_statements(source)
    }
    assert len(found) > 20
    assert {place: sql for place, sql in found.items() if OWNED_BY_OTHERS.search(sql)} == {}


@promise("no superuser session of a stack reads or executes what another role owns", control=True)
def test_a_superuser_statement_that_names_one_is_found() -> None:
    cases: list[str] = [
        'psql(container, "SELECT count(*) FROM groundwork.users")',
        'psql(bench.name, f"SELECT count(*) FROM {roles.SCHEMA}.users", database=roles.DATABASE)',
        'QUERY = "SELECT version FROM groundwork._sqlx_migrations"\nexamination.postgres.superuser_rows(QUERY)',
        'T = f"{SCHEMA}.users"\ndef f():\n    sql = f"SELECT 1 FROM {T}"\n    server.psql(sql)',
    ]
    for source in cases:
        with in_case(source):
            assert [sql for _, sql in superuser_statements(source) if OWNED_BY_OTHERS.search(sql)]


def test_sql_with_a_nul_byte_is_not_passed_to_psql() -> None:
    # psql ignores the rest of a line after a NUL byte.
    with pytest.raises(DockerError, match="contains a NUL byte"):
        psql("no-such-container", "ALTER ROLE app NOLOGIN \0 CONNECTION LIMIT 0;")
