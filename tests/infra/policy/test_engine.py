"""The rules and the data-loss guard on the real engine's JSON and its calls of the policy pack."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.policy.plan import Plan
from infra.policy.rules import judge
from infra.policy.value import UNKNOWN
from infra.policy.waiver import today
from tests.infra.policy.conftest import ROOT, Engine, Judged
from tests.policy_stack import CANARY, UNKNOWN_TEXT, Secret, Stack, changed, good_stack, preview, without
from tests.promises import promise

POSTGRES = next(each.urn for each in good_stack() if each.name == "postgres")


BAD = changed(
    changed(
        changed(
            good_stack(),
            "postgres",
            publiclyAccessible=True,
            password=Secret(CANARY),
            instanceClass="db.m7g.xlarge",
        ),
        "token-keys-version",
        secretString=Secret(f"k2:{CANARY}"),
    ),
    "postgres-ingress",
    cidrIpv4="0.0.0.0/0",
)


def policies(output: str) -> set[tuple[str, str]]:
    """Return (level, name) of each policy that the engine names."""
    return set(re.findall(r"\[(mandatory|advisory)\](?:\s+\[severity: \w+\])?\s+(\S+)", output))


def rows(content: Mapping[str, Any], state: str) -> dict[str, tuple[Any, ...]]:
    """Return what the rules read from each resource of a preview."""
    found = {}
    for step in content["steps"]:
        shown = step.get(state)
        if shown and shown["type"].startswith("aws:"):
            made_from = {k: sorted(v) for k, v in shown.get("propertyDependencies", {}).items()}
            found[shown["urn"]] = (
                step["op"],
                shown.get("inputs", {}),
                made_from,
                shown.get("protect", False),
            )
    return found


def test_first_preview_matches_the_unit_tests_and_satisfies_every_rule(
    first_preview: dict[str, Any],
) -> None:
    """Outputs that the provider already knows are known in a preview. The others are unknown."""
    ours = rows(preview([], good_stack()), "newState")
    theirs = rows(first_preview, "newState")
    assert theirs.keys() == ours.keys()
    for urn, (op, inputs, made_from, protect) in ours.items():
        assert (theirs[urn][0], theirs[urn][2], theirs[urn][3]) == (op, made_from, protect)
        assert theirs[urn][1].keys() == inputs.keys()
    assert UNKNOWN_TEXT in json.dumps(first_preview)
    plan = Plan.parse(json.dumps(first_preview))
    assert plan.left_out == 0
    assert len(plan.resources) == len(good_stack()) + 1
    assert judge(plan.resources) == []


def test_the_good_stack_is_created_without_violations(made: Engine, judged: Judged) -> None:
    content = made.preview(good_stack())
    assert rows(content, "newState") == rows(preview(good_stack(), good_stack()), "newState")
    found = judged("check", content)
    assert (found.code, found.err) == (0, "")
    assert judged("firewall", content).code == 0


@promise("the policy pack blocks what the command refuses")
def test_violations_stop_a_preview_with_the_policy_pack(made: Engine) -> None:
    done = made.pulumi(BAD, "preview", "--policy-pack", made.pack)
    assert done.returncode != 0
    assert policies(done.stdout + done.stderr) == {
        ("mandatory", name) for name in ("RDS.2", "RDS.managed-password", "EC2.18", "EC2.19")
    }
    assert CANARY not in done.stdout + done.stderr


def test_command_and_policy_pack_have_the_same_findings_without_secrets(
    made: Engine, judged: Judged, tmp_path: Path
) -> None:
    content = made.preview(BAD)
    # Negative control: without the pack nothing stops the preview.
    assert [each for each in content["diagnostics"] if each["severity"] == "error"] == []
    found = judged("check", content, "--json", "--sarif", str(tmp_path / "findings.sarif"))
    assert found.code == 4
    rules = {row["rule"] for row in json.loads(found.out)["findings"]}
    assert rules == {"RDS.2", "RDS.managed-password", "EC2.18", "EC2.19"}
    assert CANARY not in found.out + found.err + (tmp_path / "findings.sarif").read_text()


ONE_ZONE = changed(good_stack(), "postgres", multiAz=False)


@promise("the policy pack blocks what the command refuses")
def test_violation_of_a_resource_stops_an_up_without_a_preview(made: Engine) -> None:
    done = made.pulumi(ONE_ZONE, "up", "--yes", "--skip-preview", "--policy-pack", made.pack)
    assert done.returncode != 0
    assert policies(done.stdout + done.stderr) == {("mandatory", "RDS.5")}
    assert next(r for r in made.resources() if r["urn"] == POSTGRES)["inputs"]["multiAz"] is True


def test_policy_pack_does_not_stop_waived_violations_and_unknown_values(made: Engine, tmp_path: Path) -> None:
    """The previous test is the negative control: the same stack without a waiver.

    A second instance has a standby that depends on a resource that does not exist yet.
    """
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    waiver = {
        "urn": POSTGRES,
        "rules": ["RDS.5"],
        "reason": "a stack of a test",
        "expires": today() + datetime.timedelta(days=7),
    }
    (tmp_path / "infra/policy/waivers/prod.yaml").write_text(yaml.safe_dump({"waivers": [waiver]}))
    rules = made.with_rules_of(tmp_path)
    new = [*ONE_ZONE, *_second("alarms-2", multiAz=UNKNOWN)]
    done = rules.pulumi(new, "preview", "--policy-pack", rules.pack)
    assert policies(done.stdout + done.stderr) == {("advisory", "undetermined")}
    assert "RDS.5: multiAz" in done.stdout
    assert done.returncode == 0


def _second(topic: str, **properties: Any) -> Stack:
    """Add another instance like the first, and a topic whose outputs are unknown."""
    first = next(each for each in good_stack() if each.name == "postgres")
    alarms = next(each for each in good_stack() if each.name == "alarms")
    second = type(first)(
        first.type, "second", {**first.properties, **properties, "identifier": "second"}, True
    )
    return [type(alarms)(alarms.type, topic), second]


LOSSES = {
    "postgres": {"engine": "mysql", "protect": False, "backupRetentionPeriod": 7, "skipFinalSnapshot": True},
    "redis": {"engineVersion": "6.2", "nodeType": "cache.t4g.small"},
    "data-key": {"protect": False},
}


@promise("a change that loses data is refused before it starts")
def test_previews_that_would_lose_data_are_refused(made: Engine, judged: Judged) -> None:
    """All in one preview: replaced, unprotected, shrunk, downgraded, smaller, deleted."""
    new = without(good_stack(), "token-keys-version")
    for name, properties in LOSSES.items():
        new = changed(new, name, **properties)
    found = judged("firewall", made.preview(new), "--json")
    assert found.code == 7
    losses = {(row["urn"].rpartition("::")[2], row["rule"]) for row in json.loads(found.out)["findings"]}
    assert losses == {
        ("postgres", "DataLoss.replace"),
        ("postgres", "DataLoss.protection"),
        ("postgres", "DataLoss.retention"),
        ("postgres", "DataLoss.final-snapshot"),
        ("redis", "DataLoss.downgrade"),
        ("redis", "DataLoss.memory"),
        ("data-key", "DataLoss.protection"),
        ("token-keys-version", "DataLoss.delete"),
    }


def test_deletion_of_a_protected_resource_is_refused_although_the_preview_fails(
    made: Engine, judged: Judged
) -> None:
    content = made.preview(without(good_stack(), "redis"))
    assert judged("check", content).code == 1
    assert judged("firewall", content).code == 7
