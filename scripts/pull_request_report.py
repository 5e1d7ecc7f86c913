"""Write a pull request's report: a preview of each stack with policy findings, and the plan of new migrations.

`python -m scripts.pull_request_report --base COMMIT STACK...` writes comment.md and its inputs into build/pull-request,
and changes nothing else. Failures are part of the report. The exit code is that of `groundwork report --markdown`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ops.git import GitError, git

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "pull-request"
MIGRATIONS = "db/migrations"
GROUNDWORK = (sys.executable, "-m", "ops.cli")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pull_request_report", description=__doc__)
    parser.add_argument("stacks", nargs="+", metavar="STACK", help="stacks to preview")
    parser.add_argument(
        "--base", default="origin/main", help="the commit into which the change will be merged"
    )
    options = parser.parse_args(arguments)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for stale in FOLDER.iterdir():
        stale.unlink()
    given = [
        *(option for stack in options.stacks for option in _of_stack(stack)),
        *_of_migrations(options.base),
    ]
    comment = FOLDER / "comment.md"
    report = [*GROUNDWORK, "report", "--markdown", str(comment), "--require-checks", *given]
    done = subprocess.run(report, cwd=ROOT, check=False)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(comment.read_text(encoding="utf-8") if comment.exists() else "")
    print(f"{comment}: exit code {done.returncode}", file=sys.stderr)
    return done.returncode


def _of_stack(stack: str) -> list[str]:
    """Return the report's options for a stack. The file of a preview that failed early is empty."""
    preview = FOLDER / f"{stack}.preview.json"
    _write(preview, "preview", "--json", "--stack", stack)
    if not _is_json(preview):
        # For the report, an empty file is a preview that failed.
        print(f"the preview of {stack} printed no complete JSON", file=sys.stderr)
        preview.write_text("", encoding="utf-8")
    options = ["--preview", f"{stack}={preview}"]
    for kind in ("check", "firewall"):
        findings, sarif = FOLDER / f"{stack}.{kind}.json", FOLDER / f"{stack}.{kind}.sarif"
        _write(findings, "policy", kind, "--plan", str(preview), "--json", "--sarif", str(sarif))
        # Without findings, the report says that the check did not run.
        if _is_json(findings):
            options += ["--findings", str(findings)]
    return options


def _of_migrations(base: str) -> list[str]:
    """Return the option with the plan of the migrations that are new, or none if git cannot list those of the base."""
    try:
        listed = git(ROOT, "ls-tree", "--name-only", base, f"{MIGRATIONS}/").decode()
    except GitError as error:
        print(f"no plan of migrations: {error}", file=sys.stderr)
        return []
    # `plan` refuses a version without a file, as of a migration that the pull request deletes.
    versions = _versions(map(Path, listed.splitlines())) & _versions((ROOT / MIGRATIONS).iterdir())
    plan = FOLDER / "plan.json"
    # A branch that merges late adds a migration older than the base's newest one, which `up` applies too.
    applied = [f"--applied={version}" for version in sorted(versions)]
    _write(plan, "migrate", "plan", *(applied or ["--from-scratch"]), "--json")
    return ["--plan", str(plan)] if _is_json(plan) else []


def _versions(paths: Iterable[Path]) -> set[int]:
    """Return the versions of the migrations among files."""
    found = (re.fullmatch(r"(\d+)_.*\.up\.sql", path.name) for path in paths)
    return {int(each[1]) for each in found if each}


def _is_json(path: Path) -> bool:
    """Return whether a file is complete JSON. A command that fails or is killed may leave another."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _write(path: Path, *command: str) -> None:
    """Run a command with its standard output in a file. Its standard error goes to the log."""
    print(f"groundwork {' '.join(command[:2])} -> {path.name}", file=sys.stderr)
    with path.open("w", encoding="utf-8") as file:
        subprocess.run([*GROUNDWORK, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
