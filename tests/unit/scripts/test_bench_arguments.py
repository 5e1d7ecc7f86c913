"""What `make bench` refuses before it measures anything."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import main


@pytest.mark.parametrize(
    ("peers", "arguments", "error"),
    [
        ("", [], "bench: PEERS is ''; use rust, or unset it\n"),
        ("go", [], "bench: PEERS is 'go'; use rust, or unset it\n"),
        ("rust", [], "bench: cannot measure rust: cargo is not on PATH; install Rust or unset PEERS\n"),
        (None, ["rust"], "bench: cannot measure rust: cargo is not on PATH; install Rust or unset PEERS\n"),
    ],
)
def test_peers_that_cannot_be_measured_are_one_line_of_error(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    peers: str | None,
    arguments: list[str],
    error: str,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("PEERS", raising=False)
    if peers is not None:
        monkeypatch.setenv("PEERS", peers)
    assert main(arguments) == 2
    assert capsys.readouterr().err == error
