"""Check on GitHub that only `main` may deploy to each environment. Needs only Python, without `.venv`.

`check_environments.py staging prod` reads GITHUB_TOKEN (permission `actions: read`), GITHUB_REPOSITORY and
GITHUB_API_URL. Exits with 4 if an environment does not exist or accepts other branches, because everybody who can
push a branch could then deploy to it.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

_SECONDS = 30.0
_BRANCH = "main"


def main(environments: list[str]) -> int:
    try:
        api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
        repository = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}"
        token = os.environ["GITHUB_TOKEN"]
    except KeyError as error:
        print(f"check_environments: {error} is not set", file=sys.stderr)
        return 2
    try:
        found = {name: _finding(f"{repository}/environments/{name}", token) for name in environments}
    except urllib.error.HTTPError as error:
        print(f"check_environments: {error.url} answers {error.code} {error.reason}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"check_environments: cannot reach the API: {error}", file=sys.stderr)
        return 6
    for name, finding in found.items():
        print(f"{name}: {finding or f'only {_BRANCH} may deploy'}")
    if any(found.values()):
        print(
            "run the commands in docs/aws-operations.md, Roles for CI, to limit these environments to main",
            file=sys.stderr,
        )
        return 4
    return 0


def _finding(url: str, token: str) -> str | None:
    """Return what is wrong with an environment, or None."""
    try:
        policy = _get(url, token)["deployment_branch_policy"]
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return (
                "the environment does not exist; the first deployment would create it, open to every branch"
            )
        raise
    if policy is None:
        return "every branch may deploy"
    if not policy["custom_branch_policies"]:
        return f"every protected branch may deploy, not only {_BRANCH}"
    allowed = [
        f"{each.get('type', 'branch')} {each['name']}"
        for each in _get(f"{url}/deployment-branch-policies?per_page=100", token)["branch_policies"]
    ]
    return None if allowed == [f"branch {_BRANCH}"] else f"may deploy: {', '.join(allowed) or 'nothing'}"


def _get(url: str, token: str) -> Any:
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
