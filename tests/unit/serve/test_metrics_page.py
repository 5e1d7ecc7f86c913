"""The page of metrics: how often it is rendered."""

from __future__ import annotations

import pytest

from ops.serve import app
from ops.serve.app import METRICS_SECONDS, MetricsPage
from tests.promises import promise


@promise("however many clients request `/metrics`, it is rendered ten times a second at most")
def test_the_page_is_rendered_again_only_after_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rendered = 1000.0, 0

    def render() -> bytes:
        nonlocal rendered
        rendered += 1
        return f"rendering {rendered}".encode()

    monkeypatch.setattr(app, "monotonic", lambda: now)
    monkeypatch.setattr(app, "generate_latest", render)
    page = MetricsPage()
    assert {page.render() for _ in range(100)} == {b"rendering 1"}
    now += METRICS_SECONDS / 2
    assert page.render() == b"rendering 1"
    now += METRICS_SECONDS
    assert {page.render() for _ in range(100)} == {b"rendering 2"}
