"""Pulumi's checkpoint: the file of the local backend with a stack's last deployment. No other module parses it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.spec.errors import InfraError

# The program that unpacks a state file, by the ending that PULUMI_DIY_BACKEND_GZIP or ..._ZSTD adds to its name.
_COMPRESSED = {".gz": "gunzip", ".zst": "unzstd --rm"}


def read_deployment(state_file: Path) -> dict[str, Any]:
    """Return the deployment in a state file, empty before the first one.

    Raises OSError if the file cannot be read, and InfraError if Pulumi has compressed it, or if its content is not a
    checkpoint.
    """
    try:
        content = json.loads(state_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        for ending, program in _COMPRESSED.items():
            compressed = state_file.with_name(state_file.name + ending)
            if compressed.exists():
                raise InfraError(
                    f"{state_file} is missing because Pulumi has compressed it; run `{program} {compressed}`, and then"
                    " the same command again"
                ) from None
        raise
    except ValueError as error:
        raise _damaged(state_file) from error
    checkpoint = content.get("checkpoint") if isinstance(content, dict) else None
    # A damaged file must not look like a stack without resources: its containers would count as leftovers.
    if not isinstance(checkpoint, dict):
        raise _damaged(state_file)
    latest = checkpoint.get("latest") or {}
    assert isinstance(latest, dict)
    return latest


def state_files(folder: Path) -> list[Path]:
    """Return the state files in a folder for `read_deployment`. A compressed one has the name that it had before."""
    endings = ("", *_COMPRESSED)
    found = {
        path.with_name(path.name.removesuffix(end)) for end in endings for path in folder.glob(f"*.json{end}")
    }
    return sorted(found)


def _damaged(state_file: Path) -> InfraError:
    return InfraError(
        f"{state_file} is damaged; copy {state_file.name}.bak over it, which Pulumi wrote before it"
    )


def resources_of(deployment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the resources of a deployment. Secret values in it stay encrypted."""
    return list(deployment.get("resources") or [])


def stack_outputs_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of the last finished `up`, empty before the first one."""
    for resource in resources_of(deployment):
        if resource["type"] == "pulumi:pulumi:Stack":
            return dict(resource.get("outputs") or {})
    return {}


def protected_on_aws(resources: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of resources on AWS that Pulumi or AWS refuses to delete."""
    return [
        each["urn"].rpartition("::")[2]
        for each in resources
        if each["type"].startswith("aws:")
        and (each.get("protect") or (each.get("outputs") or {}).get("deletionProtection"))
    ]


def opened(value: Any) -> Any:
    """Return a value of a deployment exported with secrets, without its secret wrapper."""
    if isinstance(value, dict) and "plaintext" in value:
        return json.loads(value["plaintext"])
    return value
