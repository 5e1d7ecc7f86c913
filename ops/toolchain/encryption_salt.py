"""Keeps Pulumi's `encryptionsalt` out of commits, and `git status` clean although it lies in the stacks' files.

The state is the truth about a stack's salt (docs/adr/0002-encryptionsalt.md). A pair of git filters takes it
out on the way into git and puts it back on the way out, so that the file's size stays what git's index
remembers: git takes another size for a change, whatever a filter says.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from infra.spec.world import World
from ops.errors import OpsError
from ops.toolchain import process
from ops.toolchain.process import CommandFailed

FILTER = "filter.groundwork-salt"
LINE = re.compile(r"^encryptionsalt: .*\n?", re.MULTILINE)
# The secrets provider stands before the resources, of which there may be megabytes.
_STATE_HEAD_CHARACTERS = 8192


def ensure(world: World) -> None:
    """Configure git's filters and settle the stacks' files; cheap where both are done. Raises OpsError."""
    settle(world, is_index_stale=_configure_git(world))


def settle(world: World, is_index_stale: bool = False) -> None:
    """Make every stack's file carry the salt of its state, and tell git that it is no change.

    A salt without a state is another checkout's (a copied folder): no passphrase of ours opens it, and Pulumi
    would take it for a wrong passphrase.
    """
    for path in sorted(world.root.glob("Pulumi.*.yaml")):
        record = _records(world) / path.name
        salt = salt_of_state(world, path.name.split(".")[1])
        wanted = f"encryptionsalt: {salt}\n" if salt else ""
        text = path.read_text()
        found = LINE.search(text)
        if (found.group() if found else "") == wanted == _text(record) and not is_index_stale:
            continue
        if (found.group() if found else "") != wanted:
            rest = LINE.sub("", text)
            path.write_text(rest + ("" if rest.endswith("\n") or not rest else "\n") + wanted)
        _refresh_index(world, path)
        record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        record.write_text(wanted)


def salt_of_state(world: World, stack: str) -> str | None:
    """The salt the local backend holds for a stack, None where it does not know the stack."""
    state = world.state_file(stack)
    try:
        with state.open() as opened:
            found = re.search(r'"salt":\s*"(v1:[^"]+)"', opened.read(_STATE_HEAD_CHARACTERS))
    except FileNotFoundError:
        return None
    return found.group(1) if found else None


def _configure_git(world: World) -> bool:
    """Give git the filters' commands, where the checkout is a repository; whether it lacked them."""
    repository = world.root / ".git"
    if not repository.exists() or shutil.which("git") is None:
        return False
    clean = "sed -e '/^encryptionsalt: /d'"
    # Without a recorded salt, the file as it is.
    smudge = f"sh -c 'cat; cat \"$0/$1\" 2>/dev/null || :' {shlex.quote(str(_records(world)))} %f"
    # Read before anything is run: this is on the way of every `make up`. In a worktree .git is a file.
    written = _text(repository / "config")
    if clean in written and str(_records(world)) in written:
        return False
    try:
        for name, command in (("clean", clean), ("smudge", smudge)):
            process.run(["git", "config", "--local", f"{FILTER}.{name}", command], cwd=world.root)
    except CommandFailed as error:
        raise OpsError(f"git cannot be configured in {world.root}: {error}") from error
    return True


def _records(world: World) -> Path:
    """Where git's filter finds the salts, under the names of the stacks' files."""
    return world.state_dir / "salts"


def _refresh_index(world: World, path: Path) -> None:
    """Have git remember the file's present size, where nothing but the salt differs from what is staged."""
    if not (world.root / ".git").exists() or shutil.which("git") is None:
        return
    name = path.name
    try:
        staged = process.run(["git", "ls-files", "--stage", "--", name], cwd=world.root)
        content = process.run(["git", "hash-object", f"--path={name}", name], cwd=world.root)
        if staged and content and content[0] in staged[0].split():
            process.run(["git", "update-index", "--", name], cwd=world.root)
    except CommandFailed:
        # Somebody else holds the index: the file shows as modified until the next run, `git diff` is empty.
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
