"""Posting and updating the comment on a pull request, with a stand-in for GitHub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.pull_request.comment import MARKER
from scripts import pull_request_comment
from tests.promises import promise
from tests.web_server import QuietHandler, served

ROOT = Path(__file__).parents[3]
BODY = f"{MARKER}\n## new\n"


class GitHub:
    """The comments of issue 7 of o/r, in pages, as returned by the REST API."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.status = 200
        self.url = ""

    def add(self, body: str, kind: str = "Bot") -> int:
        number = len(self.comments) + 1
        url = f"{self.url}/repos/o/r/issues/comments/{number}"
        self.comments.append({"url": url, "html_url": f"html-{number}", "body": body, "user": {"type": kind}})
        return number - 1


@pytest.fixture
def github() -> Iterator[GitHub]:
    api = GitHub()

    class Handler(QuietHandler):
        def _answer(self, content: Any) -> None:
            assert self.headers["Authorization"] == "Bearer t0ken"
            self.send_response(api.status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def _body(self) -> str:
            text: str = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
            return text

        def do_GET(self) -> None:
            api.calls.append("GET")
            page = int(self.path.partition("&page=")[2])
            self._answer(api.comments[(page - 1) * 100 : page * 100])

        def do_POST(self) -> None:
            assert self.path == "/repos/o/r/issues/7/comments"
            api.calls.append("POST")
            self._answer(api.comments[api.add(self._body())])

        def do_PATCH(self) -> None:
            api.calls.append("PATCH")
            comment = api.comments[int(self.path.rpartition("/")[2]) - 1]
            comment["body"] = self._body()
            self._answer(comment)

    with served(Handler) as port:
        api.url = f"http://127.0.0.1:{port}"
        yield api


def post(
    github: GitHub, folder: Path, body: str = BODY, **variables: str
) -> subprocess.CompletedProcess[str]:
    (folder / "comment.md").write_text(body)
    given = {
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": "o/r",
        "PULL_REQUEST": "7",
        "GITHUB_TOKEN": "t0ken",
    }
    # Without installed packages, because the script runs without a .venv.
    command = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "pull_request_comment.py")]
    return subprocess.run(
        [*command, str(folder / "comment.md")],
        env=os.environ | given | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_pull_request_without_a_comment_gets_one(github: GitHub, tmp_path: Path) -> None:
    done = post(github, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "html-1\n", "")
    assert [comment["body"] for comment in github.comments] == [BODY]


@pytest.mark.parametrize("first", ["", "<!-- another-bot -->", f"{MARKER} x", f" {MARKER}"])
def test_a_file_without_the_marker_replaces_no_comment(github: GitHub, tmp_path: Path, first: str) -> None:
    """Code of the pull request writes the file."""
    github.add("<!-- another-bot -->\n## blocked")
    done = post(github, tmp_path, f"{first}\n## approved\n")
    assert (done.returncode, github.calls) == (2, [])
    assert f"does not begin with the line {MARKER}" in done.stderr


def test_the_marker_of_the_script_is_that_of_the_report() -> None:
    assert pull_request_comment.MARKER == MARKER


@promise("a second run edits the first one's comment")
def test_a_second_run_updates_the_comment_of_the_first(github: GitHub, tmp_path: Path) -> None:
    github.add("somebody's", "User")
    github.add(f"{MARKER}\n## old")
    assert post(github, tmp_path).stdout == "html-2\n"
    assert [comment["body"] for comment in github.comments] == ["somebody's", BODY]


def test_a_comment_on_the_second_page_is_found(github: GitHub, tmp_path: Path) -> None:
    for _ in range(150):
        github.add("chatter", "User")
    github.add(f"{MARKER}\n## old")
    assert post(github, tmp_path).returncode == 0
    assert github.calls == ["GET", "GET", "PATCH"]


@pytest.mark.parametrize(
    ("body", "kind"), [(f"{MARKER}\n## forged", "User"), (f"> {MARKER}", "Bot"), (f"see\n{MARKER}", "Bot")]
)
def test_a_comment_of_another_author_is_not_changed(
    github: GitHub, tmp_path: Path, body: str, kind: str
) -> None:
    github.add(body, kind)
    assert post(github, tmp_path).returncode == 0
    assert [comment["body"] for comment in github.comments] == [body, BODY]


def test_a_refusal_is_one_line_without_the_token(github: GitHub, tmp_path: Path) -> None:
    github.status = 403
    done = post(github, tmp_path)
    assert done.returncode == 1
    assert "answers 403" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "t0ken" not in done.stderr


@pytest.mark.parametrize("variable", ["PULL_REQUEST", "GITHUB_API_URL"])
def test_an_invalid_variable_is_reported(github: GitHub, tmp_path: Path, variable: str) -> None:
    done = post(github, tmp_path, **{variable: "http://127.0.0.1:9" if "URL" in variable else "seven"})
    assert done.returncode == (6 if "URL" in variable else 2)
    assert done.stderr.count("\n") == 1
