"""The specification of a new entity, checked against the code of the checkout before anything is written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ops.entity.field import Field, checked_name, parse_field, refuse

# Names that have another meaning in the data access, its modules or the outbox.
_TAKEN = {"activity", "activities", "open", "close", "aclose", "cache", "new"}
# Classes that the generated modules import, with the names that they have in db/_sync.
_IMPORTED = {
    *("Literal", "Decimal", "UUID", "Listing", "Tier", "RecordKind", "Case"),
    *("Client", "Pool", "KeyedRepository", "RecordRepository"),
}
# Functions and variables of the methods whose parameter is a key or a reference.
_HELPERS = {
    *("text", "indexed_text", "bigint", "integer", "uuid", "attrgetter"),
    *("listing", "parameters", "query"),
}


@dataclass(frozen=True)
class Specification:
    """A new entity: its name, its plural, its fields, and the field that is its natural key, if any."""

    name: str
    plural: str
    fields: tuple[Field, ...]
    key: Field | None = None

    @cached_property
    def model(self) -> str:
        return _camel(self.name)

    @property
    def label(self) -> str:
        return self.name.replace("_", " ")

    @property
    def labels(self) -> str:
        return self.plural.replace("_", " ")

    @property
    def a_label(self) -> str:
        return f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.label}"

    @property
    def optional(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_nullable)

    @property
    def references(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.reference)

    @property
    def columns(self) -> list[str]:
        return ["id", *(field.name for field in self.fields), "created_at", "updated_at", "row_version"]

    def python_type(self, field: Field) -> str:
        return self.alias(field) if field.values else field.type.python

    def alias(self, field: Field) -> str:
        """Return the name of an enumeration's type."""
        return f"{self.model}{_camel(field.name)}"

    @property
    def classes(self) -> list[str]:
        enumerations = [self.alias(field) for field in self.fields if field.values]
        return [self.model, f"New{self.model}", f"{self.name.upper()}_SCHEMA", *enumerations]


def specify(
    root: Path, name: str, plural: str | None, fields: Iterable[str], key: str | None
) -> Specification:
    """Return the specification of a new entity. Raise OpsError (2) if a name or a field is invalid or in use."""
    checked_name("entity", name)
    plural = checked_name("plural", plural or _plural(name))
    if plural == name:
        raise refuse(f"plural {plural!r} is the entity's own name; pass another one with --plural")
    tables = _tables(root)
    for word in (name, plural):
        if word in _TAKEN | tables or word in _names_in_use(root):
            raise refuse(f"{word!r} exists already in the schema or in the data access; choose another name")
    parsed = tuple(parse_field(text, frozenset(_entity_tables(root) | {plural})) for text in fields)
    if not parsed:
        raise refuse(f"entity {name!r} has no fields; add at least one, like --field name:text")
    names = [field.name for field in parsed]
    if twice := next((each for each in names if names.count(each) > 1), None):
        raise refuse(f"field {twice!r} is given twice; name each field once")
    natural_key = _key(parsed, key)
    if natural_key is not None and natural_key.kind == "text":
        # A key has an index.
        indexed = replace(natural_key, type=replace(natural_key.type, check="indexed_text"))
        parsed = tuple(indexed if field is natural_key else field for field in parsed)
        natural_key = indexed
    specification = Specification(name, plural, parsed, natural_key)
    for field in parsed:
        if field.reference == plural and not field.is_nullable:
            raise refuse(
                f"field {field.name!r} refers to its own table, so the first row needs null; add `?`"
            )
        if field.name in _HELPERS and (field.reference or field is specification.key):
            raise refuse(
                f"field {field.name!r} cannot be a key or a reference: generated code uses this name; rename it"
            )
    if twice := _twice([f"list_by_{_stem(field)}" for field in specification.references]):
        raise refuse(f"two references would both have the method {twice}; rename one of the fields")
    # `gives` of a named query may be a Struct of either module.
    defined = {
        name
        for module in ("models.py", "rows.py")
        for name in _defined((root / "db" / module).read_text("utf-8"))
    } | _IMPORTED
    for used in specification.classes:
        if used in defined or specification.classes.count(used) > 1:
            raise refuse(f"{name!r} would have the class {used}, which exists already; choose another name")
    return specification


def listing_name(field: Field) -> str:
    """Return what follows `list_by_` in the name of a reference's listing: `org` for org_id."""
    return _stem(field)


def _stem(field: Field) -> str:
    return field.name.removesuffix("_id") or field.name


def _key(fields: tuple[Field, ...], key: str | None) -> Field | None:
    if key is None:
        return None
    found = next((field for field in fields if field.name == key), None)
    if found is None:
        raise refuse(f"--key {key} is not one of the fields; add --field {key}:text")
    if not found.can_be_key:
        kind = f"{found.kind}{'?' * found.is_nullable}"
        raise refuse(f"--key {key} has type {kind}; a key is text, int, bigint or uuid, and not null")
    return found


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _plural(name: str) -> str:
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    return f"{name}es" if re.search(r"(?:s|x|z|ch|sh)$", name) else f"{name}s"


def _twice(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


def _entity_tables(root: Path) -> set[str]:
    return set(re.findall(r'Entity\("\w+", "(\w+)"\)', (root / "db" / "entities.py").read_text("utf-8")))


def _tables(root: Path) -> set[str]:
    """Return the names of all tables, views and types that the migrations create."""
    made = re.compile(
        r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW|MATERIALIZED VIEW|TYPE)(?: IF NOT EXISTS)? (?:\w+\.)?(\w+)",
        re.I,
    )
    return {
        name
        for path in (root / "db" / "migrations").glob("*.up.sql")
        for name in made.findall(path.read_text("utf-8"))
    }


def _names_in_use(root: Path) -> set[str]:
    """Return the names of entities, feeds, files of queries, modules, and attributes and methods of the data access."""
    db = root / "db"
    entities = re.findall(r'"(\w+)"', (db / "entities.py").read_text("utf-8"))
    access = (db / "_async" / "access.py").read_text("utf-8")
    return {
        *entities,
        *(path.stem for path in (db / "queries").glob("*.sql")),
        *(path.stem for path in (db / "_async").glob("*.py")),
        *re.findall(r"self\.(\w+) = ", access),
        *re.findall(r"def (\w+)\(", access),
    }


def _defined(source: str) -> set[str]:
    """Return the names that a module defines or imports."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    return names
