"""Run git in a checkout, and report its failures as one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ops.errors import OpsError

_SECONDS = 60
# The variables that select another repository, index or file, as a hook of git gets them (`git rev-parse
# --local-env-vars`). Variables with settings, such as safe.directory, still apply.
_REPOSITORY = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_PREFIX"),
    *("GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_CONFIG", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_NAMESPACE"),
}


class GitError(OpsError):
    """A git command failed. The message contains git's own reason."""


class NotOwnerError(GitError):
    """Git refuses to read a repository because another user owns its folder."""


def git(folder: Path, *arguments: str) -> bytes:
    """Run `git ARGUMENTS` in `folder` and return its standard output. Raises GitError.

    Optional locks are not taken, so that the user's own git commands are not disturbed.
    """
    name = next(argument for argument in arguments if not argument.startswith("-"))
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            # Keep git from translating its messages, which are parsed below.
            env={name: value for name, value in os.environ.items() if name not in _REPOSITORY}
            | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except OSError as error:
        raise GitError(f"cannot run git in {folder}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"`git {name}` in {folder} timed out after {_SECONDS} s") from error
    if done.returncode == 0:
        return done.stdout
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = next(
        (line for line in lines if line.startswith("fatal:")), lines[0] if lines else "no reason given"
    )
    reason = reason.removeprefix("fatal: ")
    if "dubious ownership" in reason:
        # The folder that git names is the repository's, which may be a parent of ours.
        trust = next((line.strip() for line in lines if "safe.directory" in line), "")
        raise NotOwnerError(
            f"`git {name}` failed: {reason}; run the command as the folder's owner, or trust the folder: {trust}"
        )
    raise GitError(f"`git {name}` in {folder} failed: {reason}")
