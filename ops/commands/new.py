"""`groundwork new`: generate code. The generator is in ops.entity."""

from __future__ import annotations

from pathlib import Path

import click

from ops.output import print_line

_ROOT = Path(__file__).parents[2]
_NEXT = (
    "",
    "Next:",
    "  make fix                                   # renders generated files, such as db/_sync",
    "  .venv/bin/groundwork sql check --update    # starts a temporary server, so it needs Docker",
    "  make check",
    "  make up                                    # applies the migration",
    "  make client                                # builds the package for applications",
)


@click.group("new")
def new() -> None:
    """Generate the code of a new entity"""


@new.command("entity")
@click.argument("name")
@click.option(
    "--field", "fields", multiple=True, metavar="NAME:TYPE", help="A field; repeat the option for each one"
)
@click.option("--key", metavar="NAME", help="The field that is the natural key")
@click.option("--plural", metavar="NAME", help="Name of the table and the repository")
def entity(name: str, fields: tuple[str, ...], key: str | None, plural: str | None) -> None:
    """Generate a table whose records are cached

    Writes the migration, queries, records and repository of the entity, and values for the tests of all entities, and
    adds the entity to the lists in the code. TYPE is text, int, bigint, bool, float, decimal, date, datetime, uuid,
    text[], int[], json, enum(a,b,c), or ref:TABLE for the id of another entity's record. A field whose type ends with ?
    may be null. With a natural key the repository gets upsert and get_by_NAME.
    """
    from ops.entity.generate import generated, write_all
    from ops.entity.specification import specify

    # Raises FileNotFoundError if this code is installed as a package, outside of a checkout.
    (_ROOT / "pyproject.toml").stat()
    specification = specify(_ROOT, name, plural, fields, key)
    files = generated(_ROOT, specification)
    write_all(files)
    for path in files:
        print_line(path.relative_to(_ROOT))
    for line in _NEXT:
        print_line(line)
