"""Post a file as a comment on a pull request, or update the existing comment. Needs only Python, without `.venv`.

Reads GITHUB_TOKEN, GITHUB_REPOSITORY, GITHUB_API_URL and PULL_REQUEST (the number). The file's first line must be the
report's marker: code of the pull request has written the file, and must not choose which comment is replaced. An
existing comment is updated only if it begins with that line and its author is a bot, because any user can write the
marker into a comment.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

# ops.pull_request.comment writes it. Importing that needs a .venv.
MARKER = "<!-- groundwork:report -->"
_SECONDS = 30.0
_PAGE = 100


def main(arguments: list[str]) -> int:
    try:
        (file,) = arguments
        body = Path(file).read_text(encoding="utf-8")
        if not _is_report(body):
            raise ValueError(f"{file} does not begin with the line {MARKER}")
        api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
        issue = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}/issues/{int(os.environ['PULL_REQUEST'])}"
        token = os.environ["GITHUB_TOKEN"]
    except (KeyError, OSError, ValueError) as error:
        print(
            f"pull_request_comment: {error!r}; scripts/pull_request_comment.py describes its input",
            file=sys.stderr,
        )
        return 2
    try:
        url = _upsert(issue, token, body)
    except urllib.error.HTTPError as error:
        print(f"pull_request_comment: {error.url} answers {error.code} {error.reason}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"pull_request_comment: cannot reach the API: {error}", file=sys.stderr)
        return 6
    print(url)
    return 0


def _upsert(issue: str, token: str, body: str) -> str:
    page = 1
    while True:
        comments = _call("GET", f"{issue}/comments?per_page={_PAGE}&page={page}", token)
        for comment in comments:
            is_ours = comment["user"]["type"] == "Bot" and _is_report(comment["body"])
            if is_ours:
                return str(_call("PATCH", comment["url"], token, {"body": body})["html_url"])
        if len(comments) < _PAGE:
            return str(_call("POST", f"{issue}/comments", token, {"body": body})["html_url"])
        page += 1


def _is_report(body: str) -> bool:
    # GitHub may return other line ends than it was given.
    return body.partition("\n")[0].rstrip("\r") == MARKER


def _call(method: str, url: str, token: str, content: dict[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        url,
        method=method,
        data=None if content is None else json.dumps(content).encode(),
        headers={
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
