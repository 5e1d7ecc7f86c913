"""The values of users for the tests of all entities."""

from __future__ import annotations

from db.models import NewUser
from tests.entities import Case

CASE = Case(
    NewUser,
    row="INSERT INTO groundwork.users (github_id, username) VALUES (4711, 'x')",
    values={
        "github_id": 7,
        "username": "ada",
        "email": "ada@example.org",
        "preferences": {"a": [1, {"b": None}]},
    },
    others={"github_id": 2**40, "username": "ünï 2", "email": None, "preferences": {}},
    key="github_id",
)
