"""No secret of an input is in a comment, wherever it occurs. A negative control shows that the value could appear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops.pull_request.redaction import looks_secret, shown
from tests.cases import in_case
from tests.promises import promise
from tests.unit.pull_request import inputs
from tests.unit.pull_request.conftest import Comment

# Does not look like a secret, so only its position can hide it.
CANARY = "correct horse"
SECRET: Any = {**inputs.MARKED, "plaintext": json.dumps(CANARY)}


def changed(path: str, old: dict[str, Any], new: dict[str, Any], **more: Any) -> str:
    return inputs.preview(inputs.step("update", old=old, new=new, diff={path: "update"}, **more))


PLACES = {
    "by its name": changed("password", {"password": "a"}, {"password": CANARY}),
    "by its name, the old value": changed(
        "masterPassword", {"masterPassword": CANARY}, {"masterPassword": "a"}
    ),
    "marked as a secret": changed("note", {"note": "a"}, {"note": SECRET}),
    "marked on the other side": changed("note", {"note": CANARY}, {"note": "[secret]"}),
    "below one that is marked": changed("a.b.c", {"a": "[secret]"}, {"a": {"b": {"c": CANARY}}}),
    "below one with such a name": changed("secrets.first", {}, {"secrets": {"first": CANARY}}),
    "a key below such a name": changed(f'tokens["{CANARY}"]', {}, {"tokens": {CANARY: "a"}}),
    "beside such a name": changed("env[0].value", {}, {"env": [{"name": "API_TOKEN", "value": CANARY}]}),
    "beside such a name that is removed": inputs.preview(
        inputs.step(
            "update",
            old={"items": [{"name": "API_TOKEN", "value": CANARY}, {"name": "a", "value": "b"}]},
            new={"items": [{"name": "a", "value": "b"}]},
            diff={"items[0].value": "delete"},
        )
    ),
    "beside such a key": changed("tags[0].value", {}, {"tags": [{"key": "password", "value": CANARY}]}),
    "in an environment": changed("envs[0]", {"envs": ["A=b"]}, {"envs": [f"A={CANARY}"]}),
    "in a URL": changed("target", {"target": "a"}, {"target": f"postgres://me:{CANARY}@host/db"}),
    "in a document": changed("policy", {}, {"policy": json.dumps({"x": CANARY})}),
    "in a list that is secret somewhere": changed("items", {}, {"items": [CANARY, "[secret]"]}),
    "in a list": changed("items", {"items": []}, {"items": [CANARY]}),
    "in an object": changed("options", {}, {"options": {"a": CANARY}}),
    "an output that is to be secret": inputs.preview(
        {
            **inputs.step("update", old={}, new={}, diff={"value": "update"}),
            "newState": {"inputs": {"value": CANARY}, "additionalSecretOutputs": ["value"]},
        }
    ),
    "where the provider says nothing": inputs.preview(
        inputs.step("update", old={"password": "a", "note": "a"}, new={"password": CANARY, "note": SECRET})
    ),
    "of a resource that is new": inputs.preview(inputs.step("create", new={"description": CANARY})),
    "of a resource that goes": inputs.preview(inputs.step("delete", old={"description": CANARY})),
    "of a resource as it is": inputs.preview(inputs.step("same", old={"a": CANARY}, new={"a": CANARY})),
    "of a property that does not change": changed(
        "size", {"size": 1, "note": CANARY}, {"size": 2, "note": CANARY}
    ),
    "in the configuration": inputs.preview(inputs.step("create"), config={"groundwork:x": CANARY}),
    "in a diagnostic": inputs.preview(
        inputs.step("create"),
        diagnostics=[
            {"severity": "error", "message": CANARY, "prefix": CANARY, "urn": inputs.urn("postgres")}
        ],
    ),
}


@promise("the comment contains no secret of a preview and no literal of a migration")
@pytest.mark.parametrize("place", PLACES)
def test_no_secret_of_a_preview_is_in_the_comment(comment: Comment, place: str) -> None:
    done = comment({"prod": PLACES[place]})
    assert "Infrastructure" in done.text or "no change" in done.text
    assert "correct" not in done.text
    assert "horse" not in done.text + done.error


@promise("the comment contains no secret of a preview and no literal of a migration", control=True)
def test_the_same_value_is_shown_at_a_position_that_is_not_secret(comment: Comment) -> None:
    """Negative control: above, only the position hides the value."""
    done = comment({"prod": changed("description", {"description": "a"}, {"description": CANARY})})
    assert f"`description`: `a` → `{CANARY}`" in done.text


@pytest.mark.parametrize(
    "value",
    [
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN PRIVATE KEY-----",
        "rediss://app:x@cache.example:6379/0",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x",
    ],
)
def test_a_value_that_looks_like_a_secret_is_hidden_under_any_name(comment: Comment, value: str) -> None:
    done = comment({"prod": changed("note", {"note": "a"}, {"note": value})})
    assert "`[not shown]`" in done.text
    assert value not in done.text


@promise("the comment contains no secret of a preview and no literal of a migration")
def test_a_list_item_whose_name_looks_like_a_secret_is_shown_by_its_index(comment: Comment) -> None:
    cases: list[str] = [
        "AKIAIOSFODNN7EXAMPLE",
        "rediss://app:x@cache.example:6379/0",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
    ]
    for name in cases:
        with in_case(name):
            sides = [{"items": [{"key": name, "size": size}]} for size in (1, 2)]
            done = comment({"prod": changed("items[0].size", *sides)})
            assert "`items[0].size`: `1` → `2`" in done.text
            assert name not in done.text


@promise("the comment contains no secret of a preview and no literal of a migration")
@pytest.mark.parametrize(
    "sql",
    [
        f"ALTER ROLE app_a PASSWORD '{CANARY}'",
        f"ALTER ROLE app_a PASSWORD $${CANARY}$$",
        f"ALTER ROLE app_a PASSWORD $x${CANARY}$x$",
        f"INSERT INTO a VALUES ('it''s', '{CANARY}",
    ],
)
def test_no_literal_of_a_migration_is_in_the_comment(comment: Comment, sql: str) -> None:
    done = comment(plan=inputs.plan(inputs.migration(10, inputs.statement(sql))))
    assert sql.split(" ")[0] in done.text
    assert "horse" not in done.text


def test_a_name_of_a_secret_is_recognized() -> None:
    cases: list[str] = [
        "password",
        "masterUserPassword",
        "secretString",
        "authToken",
        "apiKey",
        "privateKey",
        "DATABASE_URL",
        "dsn",
        "userData",
        "environment",
        "envs",
        "tokenKeys",
        "certPem",
    ]
    for name in cases:
        with in_case(name):
            assert looks_secret(name)


def test_another_name_is_not_recognized() -> None:
    cases: list[str] = [
        "instanceClass",
        "kmsKeyId",
        "kmsKeyArn",
        "engineVersion",
        "enableKeyRotation",
        "backupRetentionPeriod",
        "port",
        "nodeType",
        "cidrBlock",
        "tags",
    ]
    for name in cases:
        with in_case(name):
            assert not looks_secret(name)


def test_a_plain_value_is_shown() -> None:
    cases: list[tuple[Any, str]] = [
        (True, "true"),
        (15, "15"),
        (0.5, "0.5"),
        ("db.r7g.large", "db.r7g.large"),
        ("", '""'),
        (None, "(none)"),
        ("10.60.0.0/16", "10.60.0.0/16"),
        ([1, 2], "[2 items]"),
        ({"a": 1}, "[1 properties]"),
        ("04da6b54-80e4-46f7-96ec-b56ff0331ba9", "[known after up]"),
    ]
    for value, text in cases:
        with in_case(value, text):
            assert shown(value) == text


def test_a_secret_with_separators_is_hidden_and_names_with_separators_are_shown() -> None:
    secrets = [
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "xK/9fQ2mLr0b.Zt7WcVaP1e/uYh3",
        "xK:9fQ2mLr0b:Zt7WcVaP1e:uYh3",
        "xK 9fQ2mLr0b Zt7WcVaP1e uYh3",
        "q8ZrT2/mVx4.Lw9:Kb7 Yp3Hd6",
    ]
    names = [
        "arn:aws:iam::123456789012:role/GroundworkTask2",
        "arn:aws:kms:eu-central-1:123456789012:alias/Prod",
        "var/lib/postgresql/15/main/pg_wal",
        "ghcr.io/example/App:v1.24.3",
        "docker.io/library/postgres:15.8",
        "2026-03-01T14:00:01Z to now",
        "Mon:03:00-Mon:04:00",
        "10.60.0.0/16",
        "2001:db8:1a2b:3c00::/56",
        "aws/rds/instance/Prod1/postgresql",
        "aws:ec2/defaultRouteTable:DefaultRouteTable",
        "aws:s3/bucketV2:BucketV2",
        "ec2:DescribeVpcEndpoints",
        "route53:ListHostedZonesByName",
        "db.t4g.medium",
        "cache.r6gd.16xlarge",
        "ElastiCache has Redis 7.0 and 7.1",
    ]
    for value, text in [*((each, "[not shown]") for each in secrets), *((each, each) for each in names)]:
        with in_case(value):
            assert shown(value) == text


def test_no_value_of_the_repositorys_stacks_is_mistaken_for_a_secret() -> None:
    """Users want to see changes of their settings."""
    import yaml

    root = Path(__file__).parents[3]
    for file in root.glob("Pulumi.*.yaml"):
        for key, value in yaml.safe_load(file.read_text())["config"].items():
            assert looks_secret(key) or shown(value) == str(value).lower() or shown(value) == value, key
