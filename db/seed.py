"""Load sample data: made up, always the same, and safe to load twice.

Names, descriptions and `preferences` say that the data is made up. Its GitHub ids are higher than any that GitHub has
assigned, so that it never collides with a real row.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import psycopg

from db.errors import DbError
from db.session import connect
from infra.spec.roles import SCHEMA

USERS = 300
ORGANIZATIONS = 40
REPOSITORIES = 400
ACTIVITIES = 6000
DAYS = 150
# So far GitHub's ids reach about 10^9, and those of events about 6 * 10^10.
FIRST_GITHUB_ID = 900_000_000_000
FIRST_EVENT_ID = 900_000_000_000_000

_RANDOM_SEED = 20080410
_GIVEN_NAMES = (
    "ada",
    "alan",
    "barbara",
    "cecilia",
    "dennis",
    "donald",
    "edsger",
    "frances",
    "grace",
    "hedy",
    "john",
    "katherine",
)
_TRADES = (
    "baker",
    "carver",
    "cooper",
    "dyer",
    "fuller",
    "glover",
    "mason",
    "miller",
    "potter",
    "sawyer",
    "smith",
    "weaver",
)
_THINGS = (
    "anvil",
    "bellows",
    "chisel",
    "forge",
    "hammer",
    "kiln",
    "lathe",
    "loom",
    "plane",
    "spindle",
    "trowel",
    "vice",
)
_LANGUAGES = ("Python", "Rust", "Go", "TypeScript", "Java", "C", "Ruby", None)
_EVENT_TYPES = {
    "PushEvent": 50,
    "PullRequestEvent": 15,
    "IssuesEvent": 12,
    "IssueCommentEvent": 10,
    "WatchEvent": 8,
    "ForkEvent": 3,
    "ReleaseEvent": 2,
}
_LOCK_KEY = 0x67775EED

_UPSERT_USERS = """
    INSERT INTO users (github_id, username, email, preferences)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::jsonb[])
    ON CONFLICT (github_id) DO UPDATE
    SET username = excluded.username, email = excluded.email, preferences = excluded.preferences
    WHERE (users.username, users.email, users.preferences)
        IS DISTINCT FROM (excluded.username, excluded.email, excluded.preferences)
"""
_UPSERT_ORGANIZATIONS = """
    INSERT INTO organizations (github_id, name, description, member_count)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::integer[])
    ON CONFLICT (github_id) DO UPDATE
    SET name = excluded.name, description = excluded.description, member_count = excluded.member_count
    WHERE (organizations.name, organizations.description, organizations.member_count)
        IS DISTINCT FROM (excluded.name, excluded.description, excluded.member_count)
"""
_UPSERT_REPOSITORIES = """
    INSERT INTO repositories AS r (github_id, org_id, name, description, language, stars, forks, issues)
    SELECT new.github_id, organizations.id, new.name, new.description, new.language, new.stars, new.forks, new.issues
    FROM unnest(
        %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::integer[], %s::integer[], %s::integer[]
    ) AS new (github_id, org_github_id, name, description, language, stars, forks, issues)
    LEFT JOIN organizations ON organizations.github_id = new.org_github_id
    ON CONFLICT (github_id) DO UPDATE
    SET org_id = excluded.org_id, name = excluded.name, description = excluded.description,
        language = excluded.language, stars = excluded.stars, forks = excluded.forks, issues = excluded.issues
    WHERE (r.org_id, r.name, r.description, r.language, r.stars, r.forks, r.issues)
        IS DISTINCT FROM (excluded.org_id, excluded.name, excluded.description, excluded.language,
                          excluded.stars, excluded.forks, excluded.issues)
"""
_COPY_ACTIVITIES = "COPY activities (github_event_id, user_id, repo_id, type, timestamp, data) FROM STDIN"


def load_sample_data(conninfo: str, *, until: datetime | None = None) -> dict[str, int]:
    """Load the sample data as role app, in one transaction.

    Return the number of rows that were inserted or changed, by table. All are 0 if the data existed already.

    Activities end at `until`, by default now. Existing activities keep their time in later runs. Raises DbError.
    """
    until = until or datetime.now(UTC)
    try:
        with connect(conninfo, search_path=SCHEMA) as connection, connection.transaction():
            # A concurrent second run waits, and then finds the data of the first.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_KEY])
            return _load(connection, until)
    except psycopg.Error as exc:
        reason = exc.diag.message_primary or " ".join(str(exc).split())
        raise DbError(
            f"cannot load the sample data: {reason}; check that the schema is up to date and the role is app",
            sqlstate=exc.sqlstate,
        ) from exc


def _load(connection: psycopg.Connection[tuple[object, ...]], until: datetime) -> dict[str, int]:
    rng = random.Random(_RANDOM_SEED)
    users = connection.execute(_UPSERT_USERS, _columns(_users(rng))).rowcount
    organizations = connection.execute(_UPSERT_ORGANIZATIONS, _columns(_organizations(rng))).rowcount
    repositories = connection.execute(_UPSERT_REPOSITORIES, _columns(_repositories(rng))).rowcount
    user_ids = _ids(
        connection, "SELECT id FROM users WHERE github_id BETWEEN %s AND %s ORDER BY github_id", USERS
    )
    repo_ids = _ids(
        connection,
        "SELECT id FROM repositories WHERE github_id BETWEEN %s AND %s ORDER BY github_id",
        REPOSITORIES,
    )
    connection.execute("SELECT make_activity_partitions(%s, %s)", [until - timedelta(days=DAYS), until])
    there = {
        row[0]
        for row in connection.execute(
            "SELECT github_event_id FROM activities WHERE github_event_id BETWEEN %s AND %s",
            [FIRST_EVENT_ID, FIRST_EVENT_ID + ACTIVITIES - 1],
        )
    }
    missing = [row for row in _activities(rng, user_ids, repo_ids, until) if row[0] not in there]
    with connection.cursor() as cursor, cursor.copy(_COPY_ACTIVITIES) as copy:
        for row in missing:
            copy.write_row(row)
    return {
        "users": users,
        "organizations": organizations,
        "repositories": repositories,
        "activities": len(missing),
    }


def _users(rng: random.Random) -> Iterator[tuple[object, ...]]:
    for n in range(USERS):
        username = f"sample-{rng.choice(_GIVEN_NAMES)}-{rng.choice(_TRADES)}-{n:03}"
        email = f"{username}@example.org" if rng.random() < 0.7 else None
        preferences = {"made_up": True, "theme": rng.choice(["light", "dark"]), "digest": rng.random() < 0.3}
        yield FIRST_GITHUB_ID + n, username, email, json.dumps(preferences)


def _organizations(rng: random.Random) -> Iterator[tuple[object, ...]]:
    for n in range(ORGANIZATIONS):
        trade, thing = rng.choice(_TRADES), rng.choice(_THINGS)
        description = f"Made up: the {trade}s of the {thing}."
        yield FIRST_GITHUB_ID + n, f"sample-{trade}-{thing}-{n:02}", description, rng.randrange(1, 200)


def _repositories(rng: random.Random) -> Iterator[tuple[object, ...]]:
    for n in range(REPOSITORIES):
        is_personal = rng.random() < 0.25
        organization = None if is_personal else FIRST_GITHUB_ID + rng.randrange(ORGANIZATIONS)
        owner = "sample-person" if is_personal else "sample-organization"
        thing = rng.choice(_THINGS)
        # A few repositories have many stars, most have hardly any.
        stars = int(rng.paretovariate(0.8)) - 1
        stars = min(stars, 200_000)
        yield (
            FIRST_GITHUB_ID + n,
            organization,
            f"{owner}/{thing}-{n:03}",
            f"Made up: another {thing}.",
            rng.choice(_LANGUAGES),
            stars,
            stars // 7,
            rng.randrange(0, 40),
        )


def _activities(
    rng: random.Random, user_ids: Sequence[int], repo_ids: Sequence[int], until: datetime
) -> Iterator[tuple[object, ...]]:
    types, weights = list(_EVENT_TYPES), list(_EVENT_TYPES.values())
    for n in range(ACTIVITIES):
        kind = rng.choices(types, weights)[0]
        yield (
            FIRST_EVENT_ID + n,
            _favouring_the_first(rng, user_ids),
            _favouring_the_first(rng, repo_ids) if rng.random() < 0.95 else None,
            kind,
            until - timedelta(seconds=rng.randrange(DAYS * 86_400)),
            json.dumps(
                {"made_up": True, "commits": rng.randrange(1, 9)}
                if kind == "PushEvent"
                else {"made_up": True}
            ),
        )


def _favouring_the_first(rng: random.Random, ids: Sequence[int]) -> int:
    return ids[int(len(ids) * rng.random() ** 2.5)]


def _ids(connection: psycopg.Connection[tuple[object, ...]], query: str, count: int) -> list[int]:
    rows = connection.execute(query, [FIRST_GITHUB_ID, FIRST_GITHUB_ID + count - 1])
    return [int(str(row[0])) for row in rows]


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]
