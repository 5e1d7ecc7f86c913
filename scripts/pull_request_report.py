"""Makes a pull request's report: a preview of each stack, its rules and its data, the plan of new migrations.

`python -m scripts.pull_request_report --base COMMIT STACK...` changes nothing but build/pull-request: comment.md and
what it was made from. What fails is part of the report; the exit code is that of `groundwork report --markdown`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "pull-request"
MIGRATIONS = "db/migrations"
GROUNDWORK = (sys.executable, "-m", "ops.cli")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pull_request_report", description=__doc__)
    parser.add_argument("stacks", nargs="+", metavar="STACK", help="stacks to preview")
    parser.add_argument(
        "--base", default="origin/main", help="the commit that the change is to be merged into"
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
    done = subprocess.run([*GROUNDWORK, "report", "--markdown", str(comment), *given], cwd=ROOT, check=False)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(comment.read_text(encoding="utf-8") if comment.exists() else "")
    print(f"{comment}: exit code {done.returncode}", file=sys.stderr)
    return done.returncode


def _of_stack(stack: str) -> list[str]:
    """The report's options for a stack. A preview that failed leaves an empty file, or a part."""
    preview = FOLDER / f"{stack}.preview.json"
    _write(preview, "preview", "--json", "--stack", stack)
    options = ["--preview", f"{stack}={preview}"]
    for kind in ("check", "firewall"):
        findings, sarif = FOLDER / f"{stack}.{kind}.json", FOLDER / f"{stack}.{kind}.sarif"
        _write(findings, "policy", kind, "--plan", str(preview), "--json", "--sarif", str(sarif))
        # What could not be judged has no findings: the report says that nobody checked it.
        if findings.stat().st_size:
            options += ["--findings", str(findings)]
    return options


def _of_migrations(base: str) -> list[str]:
    """The option for the plan of those above the newest of the base; none where that cannot be told."""
    listed = subprocess.run(
        ["git", "ls-tree", "--name-only", base, f"{MIGRATIONS}/"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        print(f"no plan of migrations: {listed.stderr.strip()}", file=sys.stderr)
        return []
    versions = [int(found) for found in re.findall(r"/(\d+)_[^/]*\.up\.sql$", listed.stdout, re.MULTILINE)]
    plan = FOLDER / "plan.json"
    _write(plan, "migrate", "plan", "--above", str(max(versions, default=0)), "--json")
    return ["--plan", str(plan)] if plan.stat().st_size else []


def _write(path: Path, *command: str) -> None:
    """Standard output into a file; standard error is for whoever reads the log."""
    print(f"groundwork {' '.join(command[:2])} -> {path.name}", file=sys.stderr)
    with path.open("w", encoding="utf-8") as file:
        subprocess.run([*GROUNDWORK, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
