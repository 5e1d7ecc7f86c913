"""Read the event log that Pulumi writes during a run: print what is in progress, and find the errors it reported."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ops.output import print_line
from ops.toolchain.progress import clock

# Operations that take time, as named in the event log.
_WORK = {"create", "update", "delete", "create-replacement", "delete-replaced", "refresh"}
_TELL_SECONDS = 15
_LONG_SECONDS = 10
# At the end of a run Pulumi gives all plugins together 5 s to answer that they will end. Of one that is slower, as on a
# busy machine, it says that it exited prematurely, and quotes what the plugin printed: nothing, unless it crashed.
_UNANSWERED = re.compile(r"Detected that (\S+) exited prematurely\..*streams of the plugin:\s*", re.DOTALL)


def await_end(process: subprocess.Popen[bytes], events: Path) -> int:
    """Wait for Pulumi, and regularly print what it is working on, because it only prints dots during an image build."""
    while True:
        try:
            return process.wait(_TELL_SECONDS)
        except subprocess.TimeoutExpired:
            if working := unfinished(events, time.time()):
                # ops.cli reports an output that cannot be written, after Pulumi has ended.
                with suppress(OSError):
                    print_line(err=True)
                    print_line(f"groundwork: working on {', '.join(working)}", err=True)


def unfinished(events: Path, now: float) -> list[str]:
    """Return the resources that the log shows as in progress for a while, each with its duration."""
    begun: dict[str, float] = {}
    for event in _events(events):
        metadata = (event.get("resourcePreEvent") or {}).get("metadata") or {}
        # A component stays open as long as its children do.
        if metadata.get("op") in _WORK and not metadata["type"].startswith(("groundwork:", "pulumi:")):
            begun[metadata["urn"]] = event["timestamp"]
        for kind in ("resOutputsEvent", "resOpFailedEvent"):
            if metadata := (event.get(kind) or {}).get("metadata"):
                begun.pop(metadata["urn"], None)
    return [
        f"{urn.rpartition('::')[2]} ({clock(now - since)})"
        for urn, since in begun.items()
        if now - since >= _LONG_SECONDS
    ]


def reported_errors(events: Path) -> list[str]:
    """Return the first line of each error in the log, except for plugins that only did not answer at the end.

    A failed resource fails the run, but a plugin that crashes at the end does not: Pulumi prints the plugin's
    output and exits with 0.
    """
    return [
        message.partition("\n")[0].strip()
        for message in _error_messages(events)
        if not _UNANSWERED.fullmatch(message)
    ]


def unanswered_ends(events: Path) -> list[str]:
    """Return the names of the plugins that did not answer when Pulumi asked them to end."""
    found = (_UNANSWERED.fullmatch(message) for message in _error_messages(events))
    return list(dict.fromkeys(Path(match[1]).name for match in found if match))


def _error_messages(events: Path) -> Iterator[str]:
    for event in _events(events):
        diagnostic = event.get("diagnosticEvent") or {}
        if diagnostic.get("severity") == "error" and not diagnostic.get("ephemeral"):
            yield str(diagnostic.get("message")).strip()


def _events(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            # The last line may be incomplete while Pulumi runs.
            break
