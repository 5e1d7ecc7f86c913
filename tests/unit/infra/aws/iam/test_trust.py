"""Which jobs of GitHub Actions may assume the roles: only these workflows, of this repository, from these refs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.promises import promise
from tests.unit.infra.aws.iam.evaluator import Request, allowed, load

KEY = "token.actions.githubusercontent.com"
MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Token:
    """The claims of a token: `what` is the last part of the subject."""

    what: str
    workflow: str = "deploy.yml"
    ref: str = MAIN
    owner: str = "acme"
    name: str = "shop"
    owner_id: str = "1001"
    repository_id: str = "2002"
    audience: str = "sts.amazonaws.com"

    def request(self, immutable: bool) -> Request:
        """Return the request with this token. The subject has ids if the repository is new."""
        repository = f"{self.owner}/{self.name}"
        subject = (
            f"{self.owner}@{self.owner_id}/{self.name}@{self.repository_id}" if immutable else repository
        )
        claims = {
            "aud": self.audience,
            "sub": f"repo:{subject}:{self.what}",
            "ref": self.ref,
            "repository": repository,
            "repository_id": self.repository_id,
            "job_workflow_ref": f"{repository}/.github/workflows/{self.workflow}@{self.ref}",
        }
        return Request(
            "sts:AssumeRoleWithWebIdentity", "*", {f"{KEY}:{claim}": value for claim, value in claims.items()}
        )


DEPLOY = Token("environment:unit")
REQUEST = Token("pull_request", "preview.yml", "refs/pull/7/merge")
DRIFT = Token(f"ref:{MAIN}")
FORMS = pytest.mark.parametrize("immutable", [False, True], ids=["names", "names and ids"])


def assumed(role: str, token: Token, immutable: bool) -> bool:
    return allowed(token.request(immutable), load(f"trust-{role}.json"))


@promise(
    "only the reviewed workflows of the repository can assume a role in AWS, and only those of main a deploy role"
)
@FORMS
@pytest.mark.parametrize(
    ("role", "token"),
    [("deploy", DEPLOY), ("preview", REQUEST), ("preview", DRIFT)],
    ids=["deploy", "request", "drift"],
)
def test_the_reviewed_workflows_get_their_role(role: str, token: Token, immutable: bool) -> None:
    assert assumed(role, token, immutable)


OTHERS = {
    "a repository whose name has the same prefix": {"name": "shop-fork", "repository_id": "2003"},
    "an owner whose name has the same prefix": {
        "owner": "acme-labs",
        "owner_id": "1002",
        "repository_id": "2003",
    },
    "a fork": {"owner": "mallory", "owner_id": "1666", "repository_id": "2666"},
    "a new repository under the old names": {"owner_id": "1667", "repository_id": "2667"},
    "another audience": {"audience": "https://github.com/acme"},
}


@promise(
    "only the reviewed workflows of the repository can assume a role in AWS, and only those of main a deploy role"
)
@FORMS
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(
    ("role", "token"),
    [("deploy", DEPLOY), ("preview", REQUEST), ("preview", DRIFT)],
    ids=["deploy", "request", "drift"],
)
def test_another_repository_gets_no_role(role: str, token: Token, other: str, immutable: bool) -> None:
    assert not assumed(role, Token(**(vars(token) | OTHERS[other])), immutable)


BRANCH = "refs/heads/feature"
NOT_DEPLOY = {
    "another environment": Token("environment:prod"),
    "an environment whose name has the same prefix": Token("environment:unit2"),
    "a job without an environment": DRIFT,
    "a branch that may use the environment": Token("environment:unit", ref=BRANCH),
    "a tag": Token("environment:unit", ref="refs/tags/main"),
    "another workflow of main": Token("environment:unit", "ci.yml"),
    "a workflow with a similar name": Token("environment:unit", "x-deploy.yml"),
    "a pull request": REQUEST,
    "a pull request that names the environment": Token(
        "environment:unit", "preview.yml", "refs/pull/7/merge"
    ),
    "a pull request that changes deploy.yml": Token("environment:unit", "deploy.yml", "refs/pull/7/merge"),
}
NOT_PREVIEW = {
    "a push to a branch": Token(f"ref:{BRANCH}", "deploy.yml", BRANCH),
    "a workflow that a branch adds": Token("pull_request", "other.yml", "refs/pull/7/merge"),
    "another workflow of main": Token(f"ref:{MAIN}", "ci.yml"),
    "deploy.yml changed by a pull request": Token("pull_request", "deploy.yml", "refs/pull/7/merge"),
    "preview.yml of a branch": Token("pull_request", "preview.yml", BRANCH),
    "an environment": DEPLOY,
}


@promise(
    "only the reviewed workflows of the repository can assume a role in AWS, and only those of main a deploy role"
)
@FORMS
@pytest.mark.parametrize("case", NOT_DEPLOY)
def test_the_deploy_role_is_not_for(case: str, immutable: bool) -> None:
    assert not assumed("deploy", NOT_DEPLOY[case], immutable)


@promise(
    "only the reviewed workflows of the repository can assume a role in AWS, and only those of main a deploy role"
)
@FORMS
@pytest.mark.parametrize("case", NOT_PREVIEW)
def test_the_preview_role_is_not_for(case: str, immutable: bool) -> None:
    assert not assumed("preview", NOT_PREVIEW[case], immutable)


@promise(
    "only the reviewed workflows of the repository can assume a role in AWS, and only those of main a deploy role",
    control=True,
)
def test_the_subject_alone_lets_a_branch_deploy() -> None:
    """The earlier trust policy. It also trusted a new repository under the old names."""
    subject = {"StringEquals": {f"{KEY}:sub": "repo:acme/shop:environment:unit"}}
    before = [
        {"Effect": "Allow", "Principal": {}, "Action": "sts:AssumeRoleWithWebIdentity", "Condition": subject}
    ]
    for token in (NOT_DEPLOY["a branch that may use the environment"],
                  Token(**(vars(DEPLOY) | OTHERS["a new repository under the old names"]))):  # fmt: skip
        assert allowed(token.request(immutable=False), before)
        assert not assumed("deploy", token, immutable=False)
