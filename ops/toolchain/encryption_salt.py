"""Keep Pulumi's `encryptionsalt` out of commits and out of `git status`, although it is in the stacks' files.

The state is the source of a stack's salt (docs/adr/0002-encryptionsalt.md). A pair of git filters removes the salt
when a file is staged and restores it at checkout. The file keeps its size that way, because git treats a size other
than the index's as a change, even if a filter removes the difference.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from infra.atomic_write import put
from infra.spec.checkout import Checkout, stack_of_file
from infra.state_folder import make_private
from ops.git import GitError, NotOwnerError, git

FILTER = "filter.groundwork-salt"
_RECORDS = "salts"
LINE = re.compile(r"^encryptionsalt: .*\n?", re.MULTILINE)
# The secrets provider precedes the resources, which may take megabytes.
_STATE_HEAD_CHARACTERS = 8192


def ensure(checkout: Checkout) -> None:
    """Configure git's filters and update the stacks' files. Cheap if both are done already. Raises OpsError."""
    settle(checkout, is_index_stale=_configure_git(checkout))


def settle(checkout: Checkout, is_index_stale: bool = False) -> None:
    """Put the salt of each stack's state into its file, and make git treat that as unchanged.

    A salt without a state is from another checkout (a copied folder). No passphrase here can decrypt it, and Pulumi
    would report a wrong passphrase.
    """
    for path in sorted(checkout.root.glob("Pulumi.*.yaml")):
        record = _records(checkout) / path.name
        salt = salt_of_state(checkout, stack_of_file(path))
        wanted = f"encryptionsalt: {salt}\n" if salt else ""
        text = path.read_text(encoding="utf-8")
        found = LINE.search(text)
        if (found.group() if found else "") == wanted == _text(record) and not is_index_stale:
            continue
        if (found.group() if found else "") != wanted:
            rest = LINE.sub("", text)
            # A link is kept, and the file that it names is replaced.
            put(path.resolve(), rest + ("" if rest.endswith("\n") or not rest else "\n") + wanted)
        _refresh_index(checkout, path)
        make_private(checkout, record.parent)
        put(record, wanted)


def salt_of_state(checkout: Checkout, stack: str) -> str | None:
    """Return the salt of a stack in the local backend, or None for an unknown stack."""
    state = checkout.state_file(stack)
    try:
        with state.open(encoding="utf-8") as opened:
            found = re.search(r'"salt":\s*"(v1:[^"]+)"', opened.read(_STATE_HEAD_CHARACTERS))
    except FileNotFoundError:
        return None
    return found.group(1) if found else None


def _configure_git(checkout: Checkout) -> bool:
    """Configure the filters if the checkout is a git repository. Return whether they were missing."""
    if not (checkout.root / ".git").exists() or shutil.which("git") is None:
        return False
    clean = "sed -e '/^encryptionsalt: /d'"
    # Worktrees share the configuration, and git starts a filter in its worktree. Without a recorded salt, the file is
    # left unchanged.
    key = '$(printf %s "$(pwd -P)" | sha256sum | cut -c1-6)'
    records = f'"$0"/*-{key}/{_RECORDS}/"$1"'
    smudge = f"sh -c 'cat; cat {records} 2>/dev/null || :' {shlex.quote(str(checkout.state_dir.parent))} %f"
    # Read the file instead of running git, because every `make up` gets here.
    written = _text(_git_folder(checkout) / "config")
    if all(command.replace("\\", "\\\\").replace('"', '\\"') in written for command in (clean, smudge)):
        return False
    # `git config` reports another user's repository as missing, without the reason.
    git(checkout.root, "rev-parse", "--git-dir")
    for name, command in (("clean", clean), ("smudge", smudge)):
        git(checkout.root, "config", "--local", f"{FILTER}.{name}", command)
    return True


def _git_folder(checkout: Checkout) -> Path:
    """Return the folder of the repository's configuration. In a worktree and a submodule, .git is a file."""
    repository = checkout.root / ".git"
    if repository.is_dir():
        return repository
    own = checkout.root / _text(repository).removeprefix("gitdir: ").strip()
    # Only in a worktree.
    return own / _text(own / "commondir").strip()


def _records(checkout: Checkout) -> Path:
    """Return the folder in which git's filter finds the salts, under the names of the stacks' files."""
    return checkout.state_dir / _RECORDS


def _refresh_index(checkout: Checkout, path: Path) -> None:
    """Update the file size in git's index if the file differs from the staged one only by the salt."""
    if not (checkout.root / ".git").exists() or shutil.which("git") is None:
        return
    name = path.name
    try:
        staged = git(checkout.root, "ls-files", "--stage", "--", name).split()
        content = git(checkout.root, "hash-object", f"--path={name}", name).strip()
        if content in staged:
            git(checkout.root, "update-index", "--", name)
    except NotOwnerError:
        raise
    except GitError:
        # The index is locked. Until the next run the file shows as modified, although `git diff` is empty.
        return


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace", encoding="utf-8")
    except OSError:
        return ""
