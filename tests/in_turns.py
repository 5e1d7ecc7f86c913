"""Run groundwork commands one after the other in one process, because each process would import everything again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Prints the exit code and both outputs of each command.
_SCRIPT = """
import io, json, os, sys
from ops.cli import main
commands, printed, environment = json.loads(sys.argv[1]), sys.stdout, dict(os.environ)
for arguments, variables in commands:
    os.environ.clear()
    os.environ.update(environment | variables)
    sys.stdout, sys.stderr = outputs = io.StringIO(), io.StringIO()
    code = 0
    try:
        main(arguments)
    except SystemExit as over:
        code = over.code
    print(json.dumps([code, *(output.getvalue() for output in outputs)]), file=printed)
"""
_LIMIT_SECONDS = 60.0

# The arguments of a command, and variables of its own.
Command = tuple[Sequence[str], Mapping[str, str]]


def run_in_turns(
    *commands: Command, folder: Path, environment: Mapping[str, str], prelude: str = ""
) -> list[tuple[int, str, str]]:
    """Return the exit codes and the two outputs of the commands, run in `folder` after the Python code `prelude`."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", prelude + _SCRIPT, json.dumps(commands)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=_LIMIT_SECONDS * len(commands),
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]
