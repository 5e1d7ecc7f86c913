"""HTTP requests to the stack's own services."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from functools import cache


def fetch(url: str, seconds: float) -> tuple[int, bytes]:
    """Return the status and the body of the answer. Raise OSError if there is no complete answer."""
    try:
        try:
            answer = _direct().open(url, timeout=seconds)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.read()
    except http.client.InvalidURL as error:
        raise ConnectionError(f"the URL is invalid: {error}") from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"the answer is cut off or not HTTP: {error!r}") from error


def fetch_body(url: str, seconds: float) -> bytes:
    """Return the body of the answer. Raise OSError if there is none, or if its status is not 200."""
    status, body = fetch(url, seconds)
    if status != 200:
        raise ConnectionError(f"the answer has HTTP status {status}")
    return body


@cache
def _direct() -> urllib.request.OpenerDirector:
    # A proxy that the environment names cannot reach this machine's localhost, or the inside of a VPC.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
