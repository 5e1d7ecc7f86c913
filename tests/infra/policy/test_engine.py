"""The rules and the firewall on what the real engine hands over: its JSON, and its calls of the policy pack."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.policy.plan import Plan
from infra.policy.rules import judge
from infra.policy.value import UNKNOWN
from infra.policy.waiver import today
from tests.infra.policy.conftest import ROOT, Engine
from tests.policy_stack import CANARY, Secret, Stack, changed, good_stack, preview, without

POSTGRES = next(each.urn for each in good_stack() if each.name == "postgres")


def policies(output: str) -> set[tuple[str, str]]:
    """(level, name) of each policy that the engine names."""
    return set(re.findall(r"\[(mandatory|advisory)\](?:\s+\[severity: \w+\])?\s+(\S+)", output))


def rows(content: Mapping[str, Any], state: str) -> dict[str, tuple[Any, ...]]:
    """What the rules read of each resource of a preview."""
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


def groundwork(content: Mapping[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments, "--plan", "-"],
        cwd=ROOT,
        input=json.dumps(content),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_preview_is_as_the_unit_tests_have_it(first_preview: dict[str, Any]) -> None:
    """An output that the provider knows already is known at a preview; the others are unknown."""
    ours = rows(preview([], good_stack()), "newState")
    theirs = rows(first_preview, "newState")
    assert theirs.keys() == ours.keys()
    for urn, (op, inputs, made_from, protect) in ours.items():
        assert (theirs[urn][0], theirs[urn][2], theirs[urn][3]) == (op, made_from, protect)
        assert theirs[urn][1].keys() == inputs.keys()


def test_the_good_stack_is_found_good_before_any_of_it_is_made(first_preview: dict[str, Any]) -> None:
    plan = Plan.parse(json.dumps(first_preview))
    assert plan.left_out == 0
    assert len(plan.resources) == len(good_stack()) + 1
    assert judge(plan.resources) == []


def test_the_good_stack_is_found_good_when_it_is_made(made: Engine) -> None:
    content = made.preview(good_stack())
    assert rows(content, "newState") == rows(preview(good_stack(), good_stack()), "newState")
    done = groundwork(content, "policy", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert groundwork(content, "policy", "firewall").returncode == 0


BAD = changed(
    changed(good_stack(), "postgres", publiclyAccessible=True, password=Secret(CANARY)),
    "postgres-ingress",
    cidrIpv4="0.0.0.0/0",
)


def test_violations_stop_a_preview_under_the_pack(made: Engine) -> None:
    done = made.pulumi(BAD, "preview", "--policy-pack", made.pack)
    assert done.returncode != 0
    assert policies(done.stdout + done.stderr) == {
        ("mandatory", name) for name in ("RDS.2", "RDS.managed-password", "EC2.18", "EC2.19")
    }
    assert CANARY not in done.stdout + done.stderr


def test_without_the_pack_nothing_stops_them(made: Engine) -> None:
    assert made.pulumi(BAD, "preview").returncode == 0


def test_the_command_finds_what_the_pack_finds_and_shows_no_secret(made: Engine, tmp_path: Path) -> None:
    content = made.preview(BAD)
    done = groundwork(content, "policy", "check", "--json", "--sarif", str(tmp_path / "findings.sarif"))
    assert done.returncode == 4
    found = json.loads(done.stdout)["findings"]
    assert {row["rule"] for row in found} == {"RDS.2", "RDS.managed-password", "EC2.18", "EC2.19"}
    assert CANARY not in done.stdout + done.stderr + (tmp_path / "findings.sarif").read_text()


def test_a_violation_that_shows_on_the_resource_stops_an_up_without_a_preview(made: Engine) -> None:
    bad = changed(good_stack(), "postgres", multiAz=False)
    done = made.pulumi(bad, "up", "--yes", "--skip-preview", "--policy-pack", made.pack)
    assert done.returncode != 0
    assert policies(done.stdout + done.stderr) == {("mandatory", "RDS.5")}
    state = json.loads(made.pulumi(bad, "stack", "export").stdout)["deployment"]["resources"]
    assert next(r for r in state if r["urn"] == POSTGRES)["inputs"]["multiAz"] is True


def test_what_is_not_known_yet_is_told_by_the_pack_and_stops_nothing(made: Engine) -> None:
    """A new instance whose standby depends on a resource that is not made yet."""
    new = [*good_stack(), *_second("alarms-2", multiAz=UNKNOWN)]
    done = made.pulumi(new, "preview", "--policy-pack", made.pack)
    assert policies(done.stdout + done.stderr) == {("advisory", "undetermined")}
    assert "RDS.5: multiAz" in done.stdout
    assert done.returncode == 0
    assert groundwork(made.preview(new), "policy", "check").returncode == 3


def _second(topic: str, **properties: Any) -> Stack:
    """Another instance like the first, and a topic made with it, for what is not known."""
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


def test_the_firewall_refuses_what_would_lose_data(made: Engine) -> None:
    """Each in one preview: replaced, unprotected, shrunk, downgraded, made smaller, deleted."""
    new = without(good_stack(), "token-keys-version")
    for name, properties in LOSSES.items():
        new = changed(new, name, **properties)
    done = groundwork(made.preview(new), "policy", "firewall", "--json")
    assert done.returncode == 7
    found = {(row["urn"].rpartition("::")[2], row["rule"]) for row in json.loads(done.stdout)["findings"]}
    assert found == {
        ("postgres", "DataLoss.replace"),
        ("postgres", "DataLoss.protection"),
        ("postgres", "DataLoss.retention"),
        ("postgres", "DataLoss.final-snapshot"),
        ("redis", "DataLoss.downgrade"),
        ("redis", "DataLoss.memory"),
        ("data-key", "DataLoss.protection"),
        ("token-keys-version", "DataLoss.delete"),
    }


def test_the_deletion_of_what_is_protected_is_refused_though_the_preview_fails(made: Engine) -> None:
    content = made.preview(without(good_stack(), "replica"))
    assert groundwork(content, "policy", "check").returncode == 1
    assert groundwork(content, "policy", "firewall").returncode == 7


def test_the_pack_lets_pass_what_is_waived(made: Engine, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    waiver = {
        "urn": POSTGRES,
        "rules": ["RDS.5"],
        "reason": "a stack of a test",
        "expires": today() + datetime.timedelta(days=7),
    }
    bad = changed(good_stack(), "postgres", multiAz=False)
    rules = made.with_rules_of(tmp_path)
    assert rules.pulumi(bad, "preview", "--policy-pack", rules.pack).returncode != 0
    (tmp_path / "infra/policy/waivers/prod.yaml").write_text(yaml.safe_dump({"waivers": [waiver]}))
    done = rules.pulumi(bad, "preview", "--policy-pack", rules.pack)
    assert (done.returncode, policies(done.stdout)) == (0, set())
