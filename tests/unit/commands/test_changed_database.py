"""A command that changes a database prints which one it is, before it connects."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.cli import main
from ops.errors import Exit
from tests.promises import promise
from tests.unit.commands.test_empty_values import parameters
from tests.unit.commands.test_foreign_text import SITE, STACK, UNLOCKED, answers, fails


class Changing(Exception):
    """A command is about to change the database."""


ALONE = UNLOCKED | {
    "ops.commands.rotate._refuse_on_aws": answers(None),
    "ops.rotation.subject.RotatedStack.check_running": answers(None),
    "ops.stack.pulumi_stack.PulumiStack.check_before_up": answers(None),
    "ops.rotation.subject.RotatedStack.roles": answers(("app",)),
}
# No server listens there.
URL = "postgresql://me:canary@127.0.0.1:9/groundwork"
READ_ONLY = {
    ("migrate", "status"),
    ("migrate", "plan"),
    ("migrate", "rehearse"),
    ("migrate", "verify"),
}
# It accepts only the stack's database, as tests/integration/cache_operations/test_migrate_reset.py checks.
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


# The stubs of a stack that is up. The last function of each command is what changes the database.
OUTPUTS = {"postgres": {"host": "localhost", "port": 15432}}
ON_STACK = {
    ("up",): ("postgres and migrator", STACK | {"ops.stack.pulumi_stack.PulumiStack.up": fails(Changing())}),
    ("restore", "--abandon"): ("postgres", SITE | {"ops.backup.restore.abandon": fails(Changing())}),
    ("restore", "--to", "LATEST", "--yes"): ("postgres", SITE | {
        "ops.backup.restore.plan": answers(None),
        "ops.backup.post_restore.post_restore_of": answers(None),
        "ops.backup.restore.restore": fails(Changing()),
    }),
    ("rotate", "passwords", "app", "--yes"): ("postgres", ALONE | {
        "ops.rotation.passwords.rotate_passwords": fails(Changing()),
    }),
    ("rotate", "certificates", "--yes"): ("postgres", ALONE | {
        "ops.rotation.certificates.rotate_certificates": fails(Changing()),
    }),
}  # fmt: skip


@promise("a command that changes a database prints which one it is, and where the URL comes from")
@pytest.mark.parametrize("arguments", ON_STACK, ids=" ".join)
@pytest.mark.parametrize("is_new", [False, True], ids=["a stack", "a new stack"])
def test_every_command_that_changes_a_stacks_database_prints_it_first(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    is_new: bool,
) -> None:
    role, stubs = ON_STACK[arguments]
    for name, value in (STACK | stubs).items():
        monkeypatch.setattr(name, value)
    monkeypatch.setattr("ops.stack.pulumi_stack.PulumiStack.exists", not is_new)
    monkeypatch.setattr("ops.stack.pulumi_stack.PulumiStack.public_outputs", answers(OUTPUTS))
    with pytest.raises(Changing):
        main([*arguments, "--stack", "dev"])
    where = "a new server" if is_new else "localhost:15432"
    assert f"database: {where}/groundwork as {role}, from stack 'dev'\n" in capfd.readouterr().err
