"""The values of repositories for the tests of all entities."""

from __future__ import annotations

from db.models import NewRepository
from tests.entities import Case

CASE = Case(
    NewRepository,
    row="INSERT INTO groundwork.repositories (github_id, name) VALUES (4711, 'x/x')",
    values={
        "github_id": 7,
        "org_id": 1,
        "name": "lab/one",
        "description": "one",
        "language": "Python",
        "stars": 1,
        "forks": 2,
        "issues": 3,
    },
    others={
        "github_id": 2**40,
        "org_id": None,
        "name": "lab/ünï",
        "description": None,
        "language": None,
        "stars": 0,
        "forks": 0,
        "issues": 0,
    },
    key="github_id",
    listings={"list_by_organization": "org_id"},
)
