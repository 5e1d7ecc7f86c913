"""The SQL of a new entity: its migration, and its named queries."""

from __future__ import annotations

from textwrap import fill

from ops.entity.field import Field
from ops.entity.specification import Specification, listing_name

_WIDTH = 118


def migration_up(entity: Specification) -> str:
    table = entity.plural
    columns = [
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        *(_column(entity, field) for field in entity.fields),
        "created_at timestamptz NOT NULL DEFAULT now()",
        "updated_at timestamptz NOT NULL DEFAULT now()",
        "row_version bigint NOT NULL DEFAULT 1",
    ]
    comments = {
        "id": "Assigned by the database; never reused.",
        **{field.name: _comment(field) for field in entity.fields},
        "created_at": "When the row was inserted.",
        "updated_at": "When the row was last updated; set by a trigger.",
        "row_version": "Starts at the microseconds since 1970, and grows by one with each update; set by triggers.",
    }
    separator = ",\n    "
    parts = [
        f"-- {entity.labels.capitalize()}, whose records are cached as entity {entity.name}.\n"
        f"CREATE TABLE {table} (\n    {separator.join(columns)}\n);",
        "\n".join(
            [
                f"COMMENT ON TABLE {table} IS '{entity.labels.capitalize()}.';",
                *(f"COMMENT ON COLUMN {table}.{name} IS '{text}';" for name, text in comments.items()),
            ]
        ),
    ]
    if entity.references:
        indexes = [f"CREATE INDEX ON {table} ({field.name}, id);" for field in entity.references]
        parts.append("-- Pages are ordered by id.\n" + "\n".join(indexes))
    parts += [
        _triggers(entity),
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO app;\nGRANT SELECT ON {table} TO readonly;",
    ]
    return "\n\n".join(parts) + "\n"


def migration_down(entity: Specification) -> str:
    return f"DROP TABLE {entity.plural};\n"


def sample_row(entity: Specification) -> str:
    """Return an INSERT of one row. A test runs it as each role."""
    required = [field for field in entity.fields if not field.is_nullable]
    if not required:
        return f"INSERT INTO groundwork.{entity.plural} DEFAULT VALUES"
    names = ", ".join(field.name for field in required)
    values = ", ".join(field.type.literal for field in required)
    return f"INSERT INTO groundwork.{entity.plural} ({names}) VALUES ({values})"


def queries(entity: Specification) -> str:
    """Return the text of the entity's file in db/queries."""
    one, many, table = entity.name, entity.plural, entity.plural
    labels, a_label, model = entity.labels, entity.a_label, entity.model
    columns = ", ".join(entity.columns)
    select = _wrapped(f"SELECT {columns}") + f"\nFROM {table}\n"
    takes = ", ".join(f"{field.name} {field.takes}" for field in entity.fields)
    insert = _wrapped(f"INSERT INTO {table} ({', '.join(field.name for field in entity.fields)})")
    values = _wrapped(f"VALUES ({', '.join(f'%({field.name})s' for field in entity.fields)})")
    returning = _wrapped(f"RETURNING {columns}") + ";"
    names = ", ".join(field.name for field in entity.fields)
    new = ", ".join(f"new.{field.name}" for field in entity.fields)
    sets = ",\n    ".join(f"{field.name} = %({field.name})s" for field in entity.fields)
    entries = [
        _entry(f"find_{one} :read", f"Find {a_label} by its id.", "id int", model, f"{select}WHERE id = %(id)s;"),
        _entry(
            f"find_{many} :read", f"Find {labels} by their ids, in no order.", "ids list[int]", model,
            f"{select}WHERE id = ANY(%(ids)s);",
        ),
        _entry(
            f"list_{many} :read", f"List {labels} after an id, ordered by id.", "after_id int, limit int", model,
            f"{select}WHERE id > %(after_id)s\nORDER BY id\nLIMIT %(limit)s;",
        ),
        *(
            _entry(
                f"list_{many}_by_{listing_name(field)} :read",
                f"List the {labels} with this {field.name} after an id, ordered by id.",
                f"{field.name} int, after_id int, limit int", model,
                f"{select}WHERE {field.name} = %({field.name})s AND id > %(after_id)s\nORDER BY id\nLIMIT %(limit)s;",
            )
            for field in entity.references
        ),
        _entry(
            f"count_{many} :read", f"Count all {labels}.", "nothing", "int\n-- never null: count",
            f"SELECT count(*) FROM {table};",
        ),
        _entry(
            f"find_{one}_versions :read", f"Find the row versions of {labels} by their ids, in no order.",
            "ids list[int]", "RowVersion", f"SELECT id, row_version FROM {table} WHERE id = ANY(%(ids)s);",
        ),
        _entry(f"add_{one} :write", f"Insert {a_label}.", takes, model, f"{insert}\n{values}\n{returning}"),
        _entry(
            f"update_{one} :write", f"Update {a_label} unless it was changed since it was read.",
            f"id int, row_version int, {takes}", model,
            f"UPDATE {table}\nSET\n    {sets}\nWHERE id = %(id)s AND row_version = %(row_version)s\n{returning}",
        ),
        _entry(
            f"patch_{one} :write",
            f"Change the columns of {a_label} in `changes`. If a row version is given, only at that version.",
            "id int, row_version int | None, changes dict", model,
            f"UPDATE {table} AS stored\n" + _wrapped(f"SET ({names}) = (") + "\n"
            + _wrapped(f"    SELECT {new}") + "\n    FROM jsonb_populate_record(stored, %(changes)s) AS new\n)\n"
            f"WHERE id = %(id)s AND row_version = coalesce(%(row_version)s, row_version)\n{returning}",
        ),
        _entry(
            f"lock_{one} :write",
            f"Find {a_label} by its id, and prevent others from changing, deleting or locking it\n"
            "-- until the transaction ends.",
            "id int", model, f"{select}WHERE id = %(id)s\nFOR NO KEY UPDATE;",
        ),
        _entry(
            f"delete_{one} :write", f"Delete {a_label}.", "id int", "int",
            f"DELETE FROM {table} WHERE id = %(id)s RETURNING id;",
        ),
        _entry(
            f"delete_{many} :write", f"Delete {labels} by their ids.", "ids list[int]", "int",
            f"DELETE FROM {table} WHERE id = ANY(%(ids)s) RETURNING id;",
        ),
    ]  # fmt: skip
    if entity.key is not None:
        key = entity.key
        flags = "".join(f", sets_{field.name} bool" for field in entity.optional)
        kept = " Columns whose sets_... flag is false are kept." if flags else ""
        types = ",\n    ".join(f"{field.name} {field.type.sql}" for field in entity.fields)
        conflict = f"ON CONFLICT ({key.name}) DO UPDATE SET\n    {_replaced(entity, key)}\n{returning}"
        entries += [
            _entry(
                f"find_{one}_by_{key.name} :read", f"Find {a_label} by its {key.name}.",
                f"{key.name} {key.takes}", model, f"{select}WHERE {key.name} = %({key.name})s;",
            ),
            _entry(
                f"upsert_{one} :write", f"Insert {a_label}, or update the one with its {key.name}.{kept}",
                f"{takes}{flags}", model, f"{insert}\n{values}\n{conflict}",
            ),
            _entry(
                f"upsert_{many} :write",
                f"Insert {labels}, or update those with their {key.name}.{kept}\n"
                f"-- The rows are ordered by {key.name}, so that two callers take their locks in the same order.",
                f"records dict{flags}", model,
                f"{insert}\n" + _wrapped(f"SELECT {new}")
                + f"\nFROM jsonb_to_recordset(%(records)s) AS new (\n    {types}\n)\n"
                f"ORDER BY new.{key.name}\n{conflict}",
            ),
        ]  # fmt: skip
    head = f"-- {entity.labels.capitalize()}. The columns are in the order of db.models.{entity.model}'s fields.\n"
    return f"{head}\n" + "\n".join(entries)


def _column(entity: Specification, field: Field) -> str:
    parts = [field.name, field.type.sql]
    if not field.is_nullable:
        parts.append("NOT NULL")
    if field is entity.key:
        parts.append("UNIQUE")
    if field.reference:
        parts.append(f"REFERENCES {field.reference} (id)")
        if field.is_nullable:
            parts.append("ON DELETE SET NULL")
    if field.type.rule:
        parts.append(f"CHECK ({field.type.rule.format(field.name)})")
    return " ".join(parts)


def _comment(field: Field) -> str:
    if field.reference:
        return f"Its record in {field.reference}" + (
            "; null after the record is deleted." if field.is_nullable else "."
        )
    text = field.name.replace("_", " ")
    return f"{text[0].upper()}{text[1:]}{'; null if unknown' if field.is_nullable else ''}."


def _triggers(entity: Specification) -> str:
    table, name = entity.plural, entity.name
    lines = [
        f"CREATE TRIGGER {table}_start_version BEFORE INSERT ON {table}\n"
        "    FOR EACH ROW EXECUTE FUNCTION start_row_version();",
        f"CREATE TRIGGER {table}_row_version BEFORE UPDATE ON {table}\n"
        "    FOR EACH ROW EXECUTE FUNCTION keep_row_version();\n",
    ]
    for verb, rows in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")):
        lines.append(
            f"CREATE TRIGGER {table}_outbox_{verb} AFTER {verb.upper()} ON {table}\n"
            f"    REFERENCING {rows} TABLE AS {rows.lower()}_rows\n"
            f"    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('{name}');"
        )
    lines.append(
        f"CREATE TRIGGER {table}_outbox_truncate BEFORE TRUNCATE ON {table}\n"
        f"    FOR EACH STATEMENT EXECUTE FUNCTION write_truncated_outbox('{name}', 'id');"
    )
    return "\n".join(lines)


def _replaced(entity: Specification, key: Field) -> str:
    """Return the SET list of an upsert. A field that may be left out is set only if it was given."""
    required = [field for field in entity.fields if not field.is_nullable and field is not key]
    return ",\n    ".join(
        [
            *(
                f"{field.name} = excluded.{field.name}"
                for field in required or ([] if entity.optional else [key])
            ),
            *(
                f"{field.name} = CASE WHEN %(sets_{field.name})s THEN excluded.{field.name}"
                f" ELSE {entity.plural}.{field.name} END"
                for field in entity.optional
            ),
        ]
    )


def _entry(name: str, description: str, takes: str, gives: str, statement: str) -> str:
    return f"-- name: {name}\n-- {description}\n-- takes: {takes}\n-- gives: {gives}\n{statement}\n"


def _wrapped(text: str) -> str:
    return fill(text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
