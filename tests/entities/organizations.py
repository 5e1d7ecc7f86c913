"""The values of organizations for the tests of all entities."""

from __future__ import annotations

from db.models import NewOrganization
from tests.entities import Case

CASE = Case(
    NewOrganization,
    row="INSERT INTO groundwork.organizations (github_id, name) VALUES (4711, 'x')",
    values={"github_id": 7, "name": "lab", "description": "one", "member_count": 3},
    others={"github_id": 2**40, "name": "ünï 2", "description": None, "member_count": 0},
    key="github_id",
)
