"""A command that changes a database prints which one it is, before it connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit
from tests.promises import promise
from tests.unit.commands.test_empty_values import parameters

# No server listens there.
URL = "postgresql://me:canary@127.0.0.1:9/groundwork"
READ_ONLY = {
    ("migrate", "status"),
    ("migrate", "plan"),
    ("migrate", "rehearse"),
    ("migrate", "verify"),
}
# It accepts no other database than the stack's, which tests/integration/migrator/test_reset.py checks.
STACK_ONLY = {("migrate", "reset")}
REST = {
    ("migrate", "down"): ["--yes"],
    ("migrate", "baseline"): ["1"],
    ("import", "gharchive"): ["FILE"],
}


@promise("a command that changes a database prints which one it is, and where the URL comes from")
def test_every_command_with_a_url_prints_its_database_unless_it_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GROUNDWORK_TOKEN_KEYS", f"a:{'A' * 43}")
    events = tmp_path / "events.json"
    events.write_text("{}")
    seen = {words[:-1] for words, _ in parameters() if words[-1] == "--url"}
    assert {("seed",), ("tokens", "rotate"), ("migrate", "up")} | READ_ONLY <= seen
    for words in sorted(seen - READ_ONLY - STACK_ONLY):
        rest = [str(events) if word == "FILE" else word for word in REST.get(words, [])]
        with pytest.raises(SystemExit) as over:
            main([*words, *rest, "--url", URL])
        err = capfd.readouterr().err
        assert over.value.code == Exit.UNREACHABLE, (words, err)
        first, second = err.splitlines()
        assert first == "database: 127.0.0.1:9/groundwork as me, from --url", words
        assert second.startswith("groundwork: the database cannot be reached")
        assert "canary" not in err
