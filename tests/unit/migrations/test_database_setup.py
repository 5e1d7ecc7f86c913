"""The schemas that a temporary database gets before its first migration."""

import pytest

from ops.migrations.database_setup import DatabaseSetup


@pytest.mark.parametrize(
    ("search_path", "home", "late", "needed"),
    [
        ('"$user", public', "public", {"own"}, ("public",)),
        ('"$user", public', "own", set(), ("own",)),
        ("own, tools, public", "public", {"own", "tools"}, ("public",)),
        ("own, tools", "own", set(), ("own",)),
        # The ledger's name has a schema that is not on the search_path.
        ("own, tools", "meta", set(), ("meta", "own")),
        # The copied extension's schema comes after the ledger's, so it gets nobody's tables.
        ("public, own", "public", set(), ("own", "public")),
    ],
)
def test_schemas_before_the_ledgers_on_the_search_path_are_late(
    search_path: str, home: str, late: set[str], needed: tuple[str, ...]
) -> None:
    setup = DatabaseSetup(
        role="own", search_path=search_path, home=home, schemas={"own": "own"}, extensions={"citext": "own"}
    )
    assert (setup.late_schemas, setup.needed_schemas) == (late, needed)
