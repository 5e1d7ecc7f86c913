"""The schemas that a temporary database gets before its first migration."""

from ops.migrations.database_setup import DatabaseSetup
from tests.cases import in_case


def test_schemas_before_the_ledgers_on_the_search_path_are_late() -> None:
    cases: list[tuple[str, str, set[str], tuple[str, ...]]] = [
        ('"$user", public', "public", {"own"}, ("public",)),
        ('"$user", public', "own", set(), ("own",)),
        ("own, tools, public", "public", {"own", "tools"}, ("public",)),
        ("own, tools", "own", set(), ("own",)),
        # The ledger's name has a schema that is not on the search_path.
        ("own, tools", "meta", set(), ("meta", "own")),
        # The copied extension's schema comes after the ledger's, so it gets nobody's tables.
        ("public, own", "public", set(), ("own", "public")),
    ]
    for search_path, home, late, needed in cases:
        with in_case(search_path, home, late, needed):
            setup = DatabaseSetup(
                role="own",
                search_path=search_path,
                home=home,
                schemas={"own": "own"},
                extensions={"citext": "own"},
            )
            assert (setup.late_schemas, setup.needed_schemas) == (late, needed)
