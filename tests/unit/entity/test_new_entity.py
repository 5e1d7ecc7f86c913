"""`groundwork new entity` in a copy of a checkout: what it refuses, and what it writes."""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path
from typing import Any

import pytest

from db.migrator import lint_migrations, read_source
from db.named_query import parse_queries
from ops.cli import main
from ops.entity import generate, python
from ops.entity.specification import specify
from ops.errors import Exit, OpsError
from tests.promises import promise
from tests.unit.entity.conftest import EVERY_TYPE, contents

NAME = ("--field", "name:text")


@pytest.fixture(autouse=True)
def _in_the_copy(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr("ops.commands.new._ROOT", checkout)


@promise("`groundwork new entity` writes all files or none, and refuses an invalid definition in one line")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gizmo",), "entity 'gizmo' has no fields; add at least one, like --field name:text"),
        (("Gizmo", *NAME), "entity 'Gizmo' is not a valid name"),
        (("gizmo-1", *NAME), "entity 'gizmo-1' is not a valid name"),
        (("t" * 29, *NAME), "has 29 characters; use at most 28"),
        (("class", *NAME), "entity 'class' is a reserved word of Python"),
        (("table", *NAME), "entity 'table' is a reserved word of SQL"),
        (("user", *NAME), "entity 'user' is a reserved word of SQL"),
        (("organization", *NAME), "'organization' exists already"),
        (("user_feed", *NAME), "'user_feed' exists already"),
        (("gizmo", "--plural", "users", *NAME), "'users' exists already"),
        (("gizmo", "--plural", "pool", *NAME), "'pool' exists already"),
        (("gizmo", "--plural", "outbox", *NAME), "'outbox' exists already"),
        (("gizmo", "--plural", "cache_outbox", *NAME), "'cache_outbox' exists already"),
        (("gizmo", "--plural", "gizmo", *NAME), "is the entity's own name; pass another one with --plural"),
        (("async_job", *NAME), "'async_job' cannot be used"),
        (("page", "--plural", "page_list", *NAME), "'page' would have the class Page, which exists already"),
        (("listing", *NAME), "'listing' would have the class Listing, which exists already"),
        (("new_user", *NAME), "'new_user' would have the class NewUser, which exists already"),
        (("row_version", *NAME), "'row_version' would have the class RowVersion, which exists already"),
        (("position", *NAME), "'position' would have the class Position, which exists already"),
        (("known_event", *NAME), "'known_event' would have the class KnownEvent, which exists already"),
        (("row", "--field", "version:enum(a,b)"), "'row' would have the class RowVersion, which exists already"),
        (("gizmo", "--field", "name"), "field 'name' has no type; write it as name:text"),
        (("gizmo", "--field", "name:"), "field 'name:' has no type; write it as name:text"),
        (("gizmo", "--field", "name:varchar"), "field 'name' has unknown type 'varchar'; use one of text, int,"),
        (("gizmo", "--field", "name:text??"), "field 'name' has unknown type 'text?'"),
        (("gizmo", "--field", "select:text"), "field 'select' is a reserved word of SQL"),
        (("gizmo", "--field", "lambda:text"), "field 'lambda' is a reserved word of Python"),
        (("gizmo", "--field", "id:bigint"), "field 'id' cannot be used: every entity has this field"),
        (("gizmo", "--field", "date:date"), "field 'date' cannot be used: it is a type in Python"),
        (("gizmo", "--field", "xmin:float"), "field 'xmin' cannot be used: it is a system column"),
        (("gizmo", "--field", "sets_a:bool"), "field 'sets_a' cannot be used"),
        (("gizmo", *NAME, *NAME), "field 'name' is given twice"),
        (
            ("gizmo", "--field", "org_id:ref:orgs"),
            "field 'org_id' refers to unknown table 'orgs'; use one of ",
        ),
        (("gizmo", "--field", "a:ref:activities"), "field 'a' refers to unknown table 'activities'"),
        (("gizmo", "--field", "up:ref:gizmos"), "field 'up' refers to its own table, so the first row needs null"),
        (("gizmo", "--field", "a:ref:users", "--field", "a_id:ref:users"), "would both have the method list_by_a"),
        (("gizmo", "--field", "status:enum()"), "field 'status' has the value ''"),
        (("gizmo", "--field", "status:enum(a,it's)"), "field 'status' has the value \"it's\""),
        (("gizmo", "--field", "status:enum(a,a)"), "field 'status' has a value twice"),
        (("gizmo", *NAME, "--key", "slug"), "--key slug is not one of the fields; add --field slug:text"),
        (("gizmo", "--field", "slug:text?", "--key", "slug"), "--key slug has type text?; a key is text, int"),
        (("gizmo", "--field", "at:datetime", "--key", "at"), "--key at has type datetime; a key is text, int"),
    ],
)  # fmt: skip
def test_an_invalid_definition_is_refused_and_writes_nothing(
    checkout: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = contents(checkout)
    with pytest.raises(SystemExit) as over:
        main(["new", "entity", *arguments])
    out, err = capfd.readouterr()
    assert (over.value.code, out, err.count("\n")) == (Exit.USAGE, "", 1)
    assert message in err
    assert contents(checkout) == before


@promise("`groundwork new entity` writes all files or none, and refuses an invalid definition in one line")
@pytest.mark.parametrize(
    "reason", [OSError(errno.ENOSPC, "No space left on device", "x"), KeyboardInterrupt()]
)
def test_a_write_that_fails_restores_the_files_before_it(
    monkeypatch: pytest.MonkeyPatch, checkout: Path, reason: BaseException
) -> None:
    before = contents(checkout)
    files = generate.generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, "slug"))
    put, calls = generate.put, 0

    def failing(path: Path, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise reason
        put(path, text)

    monkeypatch.setattr(generate, "put", failing)
    for failing_call in range(1, len(files) + 1):
        calls = 0
        with pytest.raises((OpsError, KeyboardInterrupt)):
            generate.write_all(files)
        assert contents(checkout) == before, failing_call
    failing_call = 0
    generate.write_all(files)
    assert contents(checkout) == before | {
        str(path.relative_to(checkout)): text for path, text in files.items()
    }


def test_a_place_that_is_not_found_is_named_and_nothing_is_written(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    access = checkout / "db/_async/access.py"
    access.write_text(access.read_text().replace("caches: dict[str, AsyncDroppable]", "caches"))
    before = contents(checkout)
    with pytest.raises(SystemExit):
        main(["new", "entity", "gizmo", *NAME])
    refusal = capfd.readouterr().err
    assert (
        "into db/_async/access.py: the line 'caches: dict[str, AsyncDroppable] = {', which marks" in refusal
    )
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "{ruff}: No such file or directory"),
        ("exit 2", "exit code 2"),
        ("echo first >&2; echo last >&2; exit 2", "last"),
    ],
)
def test_without_a_ruff_that_works_its_error_is_shown_and_nothing_is_written(
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    script: str | None,
    reason: str,
) -> None:
    ruff = tmp_path / "ruff"
    if script is not None:
        ruff.write_text(f"#!/bin/sh\n{script}\n")
        ruff.chmod(0o755)
    monkeypatch.setattr(generate, "_RUFF", ruff)
    before = contents(checkout)
    with pytest.raises(SystemExit):
        main(["new", "entity", "gizmo", *NAME])
    assert f"with ruff: {reason.format(ruff=ruff)}; run `make .venv`" in capfd.readouterr().err
    assert contents(checkout) == before


@pytest.mark.parametrize(
    ("fields", "key"),
    [(EVERY_TYPE, "slug"), (EVERY_TYPE, None), (("code:uuid",), "code"), (("n:int?",), None)],
)
def test_the_files_are_valid(checkout: Path, fields: tuple[str, ...], key: str | None) -> None:
    files = generate.generated(checkout, specify(checkout, "gizmo", None, fields, key))
    generate.write_all(files)
    for path in files:
        if path.suffix == ".py":
            ast.parse(path.read_text())
    migrations = read_source(checkout / "db" / "migrations")
    assert migrations[-1].name.endswith("_gizmos")
    assert lint_migrations(migrations[-1:]) == ()
    queries = parse_queries((checkout / "db/queries/gizmos.sql").read_text(), "gizmos.sql")
    for query in queries.values():
        names = {name for name in query.takes if f"%({name})s" in query.sql.decode()}
        assert names == set(query.takes), query.name
    assert ("upsert_gizmo" in queries) == (key is not None)


def test_a_field_cannot_hide_a_name_of_a_generated_method(checkout: Path) -> None:
    files = generate.generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, "slug"))
    tree = ast.parse(files[checkout / "db/_async/gizmos.py"])
    fields = {field.partition(":")[0] for field in EVERY_TYPE}
    accepted, refused = [], 0
    for method in (node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)):
        names = {node.id for node in ast.walk(method) if isinstance(node, ast.Name)}
        names |= {each.arg for each in (*method.args.args, *method.args.kwonlyargs)}
        for name in {each for each in names if re.fullmatch("[a-z][a-z_]*", each)} - fields:
            reference = method.name.startswith("list_by_")
            field = f"{name}:ref:users" if reference else f"{name}:text"
            try:
                specify(
                    checkout,
                    "gizmo",
                    None,
                    (field,),
                    name if "_by_" in method.name and not reference else None,
                )
            except OpsError:
                refused += 1
            else:
                accepted.append((method.name, name))
    assert accepted == []
    assert refused > 20


def test_an_entity_cannot_have_the_name_of_a_class_that_its_modules_import(checkout: Path) -> None:
    files = generate.generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, "slug"))
    files |= generate.generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, None))
    for path in ("db/_async/gizmos.py", "tests/entities/gizmos.py"):
        tree = ast.parse(files[checkout / path])
        imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
        for name in {alias.name.removeprefix("Async") for node in imports for alias in node.names}:
            entity = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
            if name == "".join(part.capitalize() for part in entity.split("_")) and "Gizmo" not in name:
                with pytest.raises(OpsError):
                    specify(checkout, entity, f"{entity}_list", ("a:text",), None)


def test_lines_of_the_longest_names_are_not_too_long(checkout: Path) -> None:
    name, plural, text, reference, mood = (letter * 28 for letter in "abtrm")
    fields = (f"{text}:text", f"{reference}:ref:{plural}?", f"{mood}:enum(good,bad)?")
    files = generate.generated(checkout, specify(checkout, name, plural, fields, text))
    lines = [line for path, text in files.items() if path.suffix == ".py" for line in text.splitlines()]
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize(("key", "check"), [("slug", "indexed_text"), (None, "text")])
def test_only_a_text_that_is_the_key_has_the_limit_of_an_index(
    checkout: Path, key: str | None, check: str
) -> None:
    fields = ("slug:text", "body:text")
    files = generate.generated(checkout, specify(checkout, "gizmo", None, fields, key))
    module = files[checkout / "db/_async/gizmos.py"]
    assert f'"slug": {check}("slug", record.slug)' in module
    assert '"body": text("body", record.body)' in module


def test_an_entity_may_have_the_name_of_a_check(checkout: Path) -> None:
    files = generate.generated(checkout, specify(checkout, "text", None, ("text:text?", "day:date"), None))
    module = files[checkout / "db/_async/texts.py"]
    assert 'optional(text, "text", record.text)' in module


def test_a_word_of_the_entitys_name_is_not_imported(checkout: Path) -> None:
    entity = specify(checkout, "due_date", None, ("name:text",), "name")
    assert python.imports(python.models(entity)) == ["from datetime import datetime"]
    assert "from datetime import" not in python.repository(entity) + python.case(entity)


def test_the_models_have_the_types_of_the_fields(checkout: Path) -> None:
    generate.write_all(generate.generated(checkout, specify(checkout, "gizmo", None, EVERY_TYPE, "slug")))
    module: dict[str, Any] = {"__name__": "copied_models"}
    exec(compile((checkout / "db/models.py").read_text(), "models.py", "exec"), module)
    hints = {name: str(hint) for name, hint in module["Gizmo"].__annotations__.items()}
    assert hints["lead_id"] == "int | None"
    assert hints["budget"] == "Decimal | None"
    assert hints["status"] == "GizmoStatus"
    assert module["GizmoStatus"].__args__ == ("open", "on hold")
    assert set(hints) >= {field.partition(":")[0] for field in EVERY_TYPE}


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("gizmo", "gizmos"),
        ("company", "companies"),
        ("box", "boxes"),
        ("branch", "branches"),
        ("day", "days"),
    ],
)
def test_the_plural_is_regular(checkout: Path, name: str, plural: str) -> None:
    assert specify(checkout, name, None, ("n:int",), None).plural == plural
