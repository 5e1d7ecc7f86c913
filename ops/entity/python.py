"""The Python code of a new entity: its records, its repository, and values for the tests of all entities."""

from __future__ import annotations

import ast
import re

from ops.entity.field import Field
from ops.entity.specification import Specification, listing_name
from ops.entity.sql import sample_row

_MODULE_OF = {
    "date": "datetime", "datetime": "datetime", "UTC": "datetime", "Decimal": "decimal", "UUID": "uuid",
    "Any": "typing", "Literal": "typing", "get_args": "typing",
}  # fmt: skip


def models(entity: Specification) -> str:
    """Return the Structs of the entity, for the end of db/models.py."""
    model = entity.model
    lines = ["", ""]
    for field in entity.fields:
        if field.values:
            listed = ", ".join(f'"{value}"' for value in field.values)
            lines += [f"{entity.alias(field)} = Literal[{listed}]", ""]
    if lines[-1] == "" and len(lines) > 2:
        lines.append("")
    lines += [
        f"class {model}(msgspec.Struct, frozen=True):",
        f'    """{entity.a_label[0].upper()}{entity.a_label[1:]}."""',
        "",
        "    id: int",
        *(f"    {field.name}: {_of_record(entity, field)}" for field in entity.fields),
        "    created_at: datetime",
        "    updated_at: datetime",
        "    row_version: int",
        "",
        "",
        f"# Increment it with every change of {model},",
        "# so that entries cached by another release are not decoded.",
        f"{entity.name.upper()}_SCHEMA = 1",
        "",
        "",
        f"class New{model}(msgspec.Struct, frozen=True, kw_only=True):",
    ]
    if entity.key is not None:
        lines += [
            f'    """The values with which to insert or upsert {entity.a_label}.',
            "",
            "    An upsert keeps the fields that are left out.",
            '    """',
        ]
    else:
        lines.append(
            f'    """The values with which to insert {entity.a_label}. A field that is left out is None."""'
        )
    lines += ["", *(f"    {field.name}: {_of_new_record(entity, field)}" for field in entity.fields), ""]
    return "\n".join(lines)


def _of_record(entity: Specification, field: Field) -> str:
    return f"{entity.python_type(field)} | None" if field.is_nullable else entity.python_type(field)


def _of_new_record(entity: Specification, field: Field) -> str:
    kind = entity.python_type(field)
    return f"{kind} | UnsetType | None = UNSET" if field.is_nullable else kind


def repository(entity: Specification) -> str:
    """Return the module of the entity in db/_async."""
    one, model, key = entity.name, entity.model, entity.key
    base = "AsyncKeyedRepository" if key else "AsyncRecordRepository"
    checks, helpers = _checks(entity)
    arguments = [
        f'"{one}"',
        f'"{entity.plural}"',
        model,
        f"{one.upper()}_SCHEMA",
        "Tier.MEDIUM",
        "_parameters",
    ]
    body = []
    if key:
        arguments += [f'"{key.name}"', *(["_known"] if entity.optional else [])]
        body += _by_key(entity, key)
    for field in entity.references:
        body += _listing(entity, field)
    patch = _patch(entity)
    body += patch
    standard = [
        *imports("\n".join([*checks, "class _:", *patch])),
        *(["from operator import attrgetter"] if entity.references else []),
    ]
    imported = [
        *sorted(standard),
        "",
        "from msgspec import UNSET, UnsetType",
        "",
        "from cache._async.client import AsyncClient",
        "from cache.timing import Tier",
        *(["from db._async.keyed_records import AsyncKeyedRepository"] if key else []),
        "from db._async.pool import AsyncPool",
        *([] if key else ["from db._async.records import AsyncRecordRepository"]),
        f"from db.models import {', '.join([*entity.classes, *(['Page'] if entity.references else [])])}",
        *(["from db.paging import Listing"] if entity.references else []),
        "from db.record_kind import RecordKind, checked_changes",
        f"from db.validation import {', '.join(sorted(helpers))}",
    ]
    known = []
    if key and entity.optional:
        names = ", ".join(f'"{field.name}"' for field in entity.optional)
        checks.append(f"_OPTIONAL = ({names}{',' if len(entity.optional) == 1 else ''})")
        known = [
            "",
            "",
            f"def _known(record: New{model}) -> dict[str, bool]:",
            '    return {f"sets_{field}": getattr(record, field) is not UNSET for field in _OPTIONAL}',
        ]
    return "\n".join(
        [
            f'"""Read and write {entity.labels}."""',
            "",
            "from __future__ import annotations",
            "",
            *imported,
            "",
            *checks,
            "",
            "",
            f"def _parameters(record: New{model} | {model}) -> dict[str, object]:",
            "    return {",
            *(f'        "{field.name}": {_checked(field)},' for field in entity.fields),
            "    }",
            *known,
            "",
            "",
            f"KIND: RecordKind[{model}, New{model}] = RecordKind({', '.join(arguments)})",
            "",
            "",
            f"class Async{model}Repository({base}[{model}, New{model}]):",
            f'    """{entity.labels.capitalize()}. Reads by id use the cache; all others go to Postgres."""',
            "",
            "    def __init__(self, pool: AsyncPool, client: AsyncClient, namespace: str) -> None:",
            "        super().__init__(KIND, pool, client, namespace)",
            *body,
            "",
        ]
    )


def _checks(entity: Specification) -> tuple[list[str], set[str]]:
    """Return the definitions of composed checks, and the functions of db.validation that the module imports."""
    lines = []
    helpers = set()
    for field in entity.fields:
        helpers |= set(re.findall(r"\w+", field.type.check))
        if field.is_nullable:
            helpers.add("optional")
        if field.values:
            lines.append(f"_check_{field.name} = one_of(get_args({entity.alias(field)}))")
        elif "(" in field.type.check:
            lines.append(f"_check_{field.name} = {field.type.check}")
    return lines, helpers


def _checked(field: Field) -> str:
    check = f"_check_{field.name}" if field.values or "(" in field.type.check else field.type.check
    value = f'"{field.name}", record.{field.name}'
    return f"optional({check}, {value})" if field.is_nullable else f"{check}({value})"


def _by_key(entity: Specification, key: Field) -> list[str]:
    name, kind, value = key.name, key.type.python, f'{key.type.check}("{key.name}", {key.name})'
    return [
        "",
        f"    async def get_by_{name}(self, {name}: {kind}) -> {entity.model}:",
        f'        """Return the record with this {name}, from Postgres. Raises NotFound."""',
        f"        return await self._get_by_key({value})",
        "",
        f"    async def find_by_{name}(self, {name}: {kind}) -> {entity.model} | None:",
        f'        """Return the record with this {name}, or None, from Postgres."""',
        f"        return await self._find_by_key({value})",
    ]


def _patch(entity: Specification) -> list[str]:
    one, model = entity.name, entity.model
    required = [field for field in entity.fields if not field.is_nullable]
    return [
        "",
        "    async def patch(",
        "        self,",
        "        record_id: int,",
        "        *,",
        *(
            f"        {field.name}: {entity.python_type(field)} | UnsetType{' | None' * field.is_nullable} = UNSET,"
            for field in entity.fields
        ),
        "        row_version: int | None = None,",
        "        idempotency_key: str | None = None,",
        f"    ) -> {model}:",
        f'        """Change the given fields without reading the {one} first, and return it.',
        "",
        "        The others keep their value. With `row_version`, raises VersionConflict if the row has another one.",
        "        Raises NotFound, and InvalidInput if no field is given. `idempotency_key` works as in `add`.",
        '        """',
        "        changes = checked_changes(",
        *(
            [
                f"            New{model}(",
                *(f"                {field.name}={field.type.samples[0]}," for field in required),
                "            ),",
            ]
            if required
            else [f"            New{model}(),"]
        ),
        "            _parameters,",
        *(f"            {field.name}={field.name}," for field in entity.fields),
        "        )",
        "        return await self._patch(record_id, changes, row_version, idempotency_key)",
    ]


def _listing(entity: Specification, field: Field) -> list[str]:
    name, end = field.name, listing_name(field)
    return [
        "",
        f"    async def list_by_{end}(",
        f"        self, {name}: int, *, limit: int = 50, after: str | None = None",
        f"    ) -> Page[{entity.model}]:",
        f'        """Return a page of the {entity.labels} with this {name}, ordered by id."""',
        f'        {name} = bigint("{name}", {name})',
        f'        listing = Listing(f"{entity.labels} by {name} {{{name}}}", length=1)',
        "        (after_id,) = listing.start(after, (0,))",
        f'        parameters = {{"{name}": {name}, "after_id": after_id}}',
        f'        query = "list_{entity.plural}_by_{end}"',
        '        return await self._page(listing, query, parameters, limit, attrgetter("id"))',
    ]


def case(entity: Specification) -> str:
    """Return the module of the entity in tests/entities."""
    rows = [f'    row="{sample_row(entity)}",']
    if len(rows[0]) > 110:
        rows = ["    row=(", *(f'        "{part}"' for part in _pieces(sample_row(entity))), "    ),"]
    lines = ["CASE = Case(", f"    New{entity.model},", *rows]
    for name, index in (("values", 0), ("others", 1)):
        lines.append(f"    {name}={{")
        for field in entity.fields:
            # The table's first row has no other row to refer to.
            sample = "None" if field.reference == entity.plural else field.type.samples[index]
            lines.append(f'        "{field.name}": {sample},')
        lines.append("    },")
    if entity.key is not None:
        lines.append(f'    key="{entity.key.name}",')
    if entity.references:
        listings = ", ".join(f'"list_by_{listing_name(f)}": "{f.name}"' for f in entity.references)
        lines.append(f"    listings={{{listings}}},")
    body = "\n".join([*lines, ")", ""])
    return "\n".join(
        [
            f'"""The values of {entity.labels} for the tests of all entities."""',
            "",
            "from __future__ import annotations",
            "",
            *imports(body),
            "",
            f"from db.models import New{entity.model}",
            "from tests.entities import Case",
            "",
            body,
        ]
    )


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\S+\s*", text)
    pieces = [""]
    for word in words:
        if len(pieces[-1]) + len(word) > 95:
            pieces.append("")
        pieces[-1] += word
    return pieces


def imports(code: str) -> list[str]:
    """Return import statements for the standard types that the code uses."""
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    used: dict[str, list[str]] = {}
    for name, module in _MODULE_OF.items():
        if name in names:
            used.setdefault(module, []).append(name)
    return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(used.items())]
