"""Tests of the application. The pytest plugin of groundwork-client gives each test its own database."""

from __future__ import annotations

from collections.abc import Iterator

import main
import pytest
from fastapi.testclient import TestClient
from groundwork_client import DataAccess


@pytest.fixture
def client(groundwork_database: object) -> Iterator[TestClient]:
    with TestClient(main.app) as client:
        yield client


def test_a_user_can_be_read_after_signing_up(client: TestClient) -> None:
    added = client.post("/users", json={"github_id": 7, "username": "ada"})

    assert added.status_code == 201
    assert client.get(f"/users/{added.json()['id']}").json() == added.json()


def test_a_missing_user_is_404(client: TestClient) -> None:
    assert client.get("/users/4711").json() == {"detail": "no user with id 4711"}


def test_a_value_that_cannot_be_stored_is_422(client: TestClient) -> None:
    assert client.post("/users", json={"github_id": 0, "username": "ada"}).status_code == 422


def test_an_http_exception_rolls_back(client: TestClient, groundwork_data: DataAccess) -> None:
    refused = client.post("/users", json={"github_id": 7, "username": "-ada"})

    assert refused.status_code == 422
    assert groundwork_data.users.list().items == []


def test_the_sign_up_is_an_activity(client: TestClient, groundwork_data: DataAccess) -> None:
    user = client.post("/users", json={"github_id": 7, "username": "ada"}).json()

    (activity,) = groundwork_data.activities.feed(user["id"]).items
    assert activity.type == "SignUp"
