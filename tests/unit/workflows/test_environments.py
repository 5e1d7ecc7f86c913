"""The check that only `main` may deploy to an environment, with a stand-in for GitHub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cases import in_case
from tests.promises import promise
from tests.web_server import QuietHandler, served

SCRIPT = Path(__file__).parents[3] / "scripts" / "check_environments.py"
CUSTOM = {"protected_branches": False, "custom_branch_policies": True}
MAIN = {"name": "main", "type": "branch"}


def check(
    environments: dict[str, dict[str, Any]], *names: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the check. `environments` is name -> its branch policy and its allowed branches."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"] == "Bearer t0ken"
            _, _, owner, repository, _, name, *rest = self.path.split("/")
            assert (owner, repository) == ("o", "r")
            self.send_response(200 if name in environments else 404)
            self.end_headers()
            found = environments.get(name, {})
            answer = {"branch_policies": found.get("allowed")} if rest else found
            self.wfile.write(json.dumps(answer).encode())

    with served(Handler) as port:
        given = {
            "GITHUB_API_URL": f"http://127.0.0.1:{port}",
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_TOKEN": "t0ken",
        }
        # Without installed packages, because the script runs without a .venv.
        return subprocess.run(
            [sys.executable, "-I", "-S", str(SCRIPT), *names],
            env=os.environ | given | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@promise("a deployment fails if a branch other than main may use its environment")
def test_environments_that_only_main_may_use_are_accepted() -> None:
    limited = {"deployment_branch_policy": CUSTOM, "allowed": [MAIN]}
    done = check({"staging": limited, "prod": limited}, "staging", "prod")
    assert (done.returncode, done.stdout) == (
        0,
        "staging: only main may deploy\nprod: only main may deploy\n",
    )


@promise("a deployment fails if a branch other than main may use its environment")
def test_an_environment_that_is_open_to_others_is_refused() -> None:
    cases: list[tuple[dict[str, Any] | None, str]] = [
        ({"deployment_branch_policy": None}, "every branch may deploy"),
        (
            {"deployment_branch_policy": {"protected_branches": True, "custom_branch_policies": False}},
            "every protected branch may deploy",
        ),
        (
            {"deployment_branch_policy": CUSTOM, "allowed": [MAIN, {"name": "release/*"}]},
            "branch release/*",
        ),
        (
            {"deployment_branch_policy": CUSTOM, "allowed": [{"name": "main", "type": "tag"}]},
            "may deploy: tag main",
        ),
        ({"deployment_branch_policy": CUSTOM, "allowed": []}, "may deploy: nothing"),
        (None, "does not exist"),
    ]
    for environment, reason in cases:
        with in_case(environment, reason):
            limited = {"deployment_branch_policy": CUSTOM, "allowed": [MAIN]}
            found = {"prod": limited} | ({} if environment is None else {"staging": environment})
            done = check(found, "staging", "prod")
            assert done.returncode == 4
            assert reason in done.stdout.splitlines()[0]
            assert "docs/aws-operations.md" in done.stderr


def test_an_api_that_cannot_be_reached_is_an_error() -> None:
    assert check({}, "staging", GITHUB_API_URL="http://127.0.0.1:9").returncode == 6
