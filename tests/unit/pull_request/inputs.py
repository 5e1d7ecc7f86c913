"""Hand-made inputs of a comment, in the format of Pulumi and the policy commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Pulumi's marker of a secret in an exported state.
MARKED = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
Json = dict[str, Any]


def urn(name: str, type_: str = "aws:rds/instance:Instance", stack: str = "prod") -> str:
    return f"urn:pulumi:{stack}::groundwork::groundwork:aws:Postgres${type_}::{name}"


def step(
    op: str,
    name: str = "postgres",
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    *,
    diff: Mapping[str, str] | None = None,
    stack: str = "prod",
    type_: str = "aws:rds/instance:Instance",
    **more: Any,
) -> Json:
    """Return one step. `diff` maps paths to kinds such as `update` and `update-replace`."""
    made: Json = {"op": op, "urn": urn(name, type_, stack), **more}
    for side, inputs in (("oldState", old), ("newState", new)):
        if inputs is not None:
            made[side] = {"urn": made["urn"], "type": type_, "inputs": inputs, "outputs": inputs}
    if diff is not None:
        made["detailedDiff"] = {path: {"kind": kind, "inputDiff": True} for path, kind in diff.items()}
    return made


def preview(*steps: Json, diagnostics: Sequence[Json] = (), config: Mapping[str, str] | None = None) -> str:
    summary: dict[str, int] = {}
    for each in steps:
        summary[each["op"]] = summary.get(each["op"], 0) + 1
    return json.dumps(
        {
            "config": config or {},
            "steps": steps,
            "diagnostics": diagnostics,
            "duration": 1,
            "changeSummary": summary,
        }
    )


def finding(status: str = "violated", **fields: Any) -> Json:
    return {
        "rule": "RDS.3",
        "title": "Storage is encrypted",
        "severity": "high",
        "status": status,
        "urn": urn("postgres"),
        "property": "storageEncrypted",
        "message": "is off",
        "fix": "set it",
        "position": None,
        "waiver": None,
        **fields,
    }


def waiver(reason: str, **fields: Any) -> Json:
    return {"urn": urn("postgres"), "rules": ["RDS.3"], "reason": reason, "expires": "2026-12-01", **fields}


def assessment(kind: str, *findings: Json, stack: str = "prod", waivers: Sequence[Json] = ()) -> str:
    counts = {s: sum(f["status"] == s for f in findings) for s in ("violated", "undetermined", "waived")}
    return json.dumps(
        {
            "kind": kind, "stack": stack, "rules": 40, "applicable": 30, "resources": 90, "counts": counts,
            "findings": findings, "waivers": waivers, "exit_code": 0,
        }
    )  # fmt: skip


def migration(number: int, *statements: Json, findings: Sequence[Json] = ()) -> Json:
    return {
        "version": number,
        "name": f"{number:04}_what",
        "out_of_order": False,
        "in_transaction": True,
        "strongest_lock": None,
        "statements": list(statements),
        "findings": list(findings),
    }


def statement(text: str, table: str = "users", mode: str = "ACCESS EXCLUSIVE") -> Json:
    lock = {"name": table, "mode": mode, "has_partitions": False}
    return {"line": 1, "text": text, "locks": [lock], "rewrites": [], "scans": []}


def plan(*migrations: Json, squawk: bool = True) -> str:
    return json.dumps(
        {"from_version": 9, "target": False, "squawk": squawk, "pending": migrations, "estimated_rows": {}}
    )
