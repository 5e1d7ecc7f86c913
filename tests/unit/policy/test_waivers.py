"""Waivers: what a file may contain, what a waiver covers, and which unused waivers are reported."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.policy.finding import Status
from infra.policy.plan import Plan
from infra.policy.rules import IDS
from infra.policy.waiver import FOLDER, Waiver, WaiverError, read_waivers, today
from ops.errors import Exit
from ops.policy.assessment import check_losses, check_policy
from tests.cases import in_case
from tests.policy_stack import STACK, Stack, changed, good_stack, preview
from tests.promises import promise

STACKS = {path.name.split(".")[1] for path in Path(__file__).parents[3].glob("Pulumi.*.yaml")}
TODAY = datetime.date(2026, 11, 25)
URNS = {each.name: each.urn for each in good_stack()}
GOOD = {
    "urn": URNS["postgres"],
    "rules": ["RDS.5"],
    "reason": "a small stack",
    "expires": datetime.date(2026, 12, 24),
}


def read(folder: Path, content: object) -> tuple[Waiver, ...]:
    path = folder / "waivers.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_waivers(path, IDS, TODAY)


def test_a_waiver_is_read(tmp_path: Path) -> None:
    waiver = Waiver(URNS["postgres"], ("RDS.5",), "a small stack", datetime.date(2026, 12, 24))
    assert read(tmp_path, {"waivers": [GOOD]}) == (waiver,)
    assert read(tmp_path, {"waivers": []}) == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("waivers: [", "not valid YAML"),
        ("", "single key `waivers`"),
        ([GOOD], "single key `waivers`"),
        ({"waivers": GOOD}, "single key `waivers`"),
        ({"waivers": [GOOD], "more": 1}, "single key `waivers`"),
        ({"waivers": [GOOD, "x"]}, "waiver 2: must have the keys expires, reason, rules, urn"),
        ({"waivers": [{k: v for k, v in GOOD.items() if k != "expires"}]}, "must have"),
        ({"waivers": [{k: v for k, v in GOOD.items() if k != "reason"}]}, "must have"),
        ({"waivers": [{**GOOD, "until": "ever"}]}, "no others"),
        ({"waivers": [{**GOOD, "urn": "postgres"}]}, "resource's URN"),
        ({"waivers": [{**GOOD, "rules": "RDS.5"}]}, "list of rule ids"),
        ({"waivers": [{**GOOD, "rules": []}]}, "list of rule ids"),
        ({"waivers": [{**GOOD, "rules": ["RDS.5", "RDS.99"]}]}, "no rule 'RDS.99'"),
        ({"waivers": [{**GOOD, "rules": ["*"]}]}, "no rule '\\*'"),
        ({"waivers": [{**GOOD, "reason": "  "}]}, "reason must not be empty"),
        (
            {"waivers": [{**GOOD, "rules": [{"RDS.5": "a note"}]}]},
            "waiver 1: there is no rule {'RDS.5': 'a note'}",
        ),
        ({"waivers": [{**GOOD, "reason": "..."}]}, "reason must not be empty or a placeholder"),
        ({"waivers": [{**GOOD, "reason": "- 1 -"}]}, "reason must not be empty or a placeholder"),
        (yaml.safe_dump({"waivers": [GOOD]}) + "waivers: []\n", "contains the key 'waivers' twice"),
        (yaml.safe_dump({"waivers": [GOOD]}) + "  reason: b\n", "contains the key 'reason' twice"),
        ("waivers:\n- expires: 2026-02-30\n", "invalid value: day is out of range"),
        ({"waivers": [{**GOOD, "expires": "never"}]}, "a date, like 2026-12-25"),
        ({"waivers": [{**GOOD, "expires": datetime.datetime(2026, 12, 24, 1, 2)}]}, "a date"),
        ({"waivers": [{**GOOD, "expires": datetime.date(2027, 12, 25)}]}, "more than a year"),
    ],
)
def test_an_invalid_file_waives_nothing(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(WaiverError, match=says) as error:
        read(tmp_path, content)
    assert str(tmp_path) in str(error.value)


def test_the_repositorys_own_waivers_are_valid() -> None:
    assert {path.stem: read_waivers(path, IDS, today()) for path in FOLDER.glob("*.yaml")}.keys() <= STACKS


BAD = changed(good_stack(), "postgres", multiAz=False, backupRetentionPeriod=8)


def plan_of(new: Stack, **changes: Any) -> Plan:
    return Plan.parse(json.dumps(preview(good_stack(), new) | changes))


def waiver(name: str = "postgres", *rules: str, expires: str = "2026-12-24") -> Waiver:
    return Waiver(URNS.get(name, f"urn:pulumi:{STACK}::groundwork::t::{name}"), rules, "why", _date(expires))


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@promise("a waiver lets one finding of one resource pass until its expiry date")
@pytest.mark.parametrize("expires", ["2026-11-25", "2027-01-01"])
def test_a_waived_finding_is_shown_but_not_counted(expires: str) -> None:
    done = check_policy(plan_of(BAD), [waiver("postgres", "RDS.5", expires=expires)], TODAY)
    assert [(f.rule, f.status) for f in done.findings] == [("RDS.5", Status.WAIVED)]
    assert (done.exit_code, done.notes) == (Exit.FINE, ())


@promise("a waiver lets one finding of one resource pass until its expiry date", control=True)
def test_a_waiver_for_something_else_has_no_effect() -> None:
    cases: list[tuple[str, Waiver]] = [
        ("another resource", waiver("replica", "RDS.5")),
        ("another rule", waiver("postgres", "RDS.2")),
        ("a loss", waiver("postgres", "DataLoss.retention")),
        ("expired", waiver("postgres", "RDS.5", expires="2026-11-24")),
    ]
    for name, given in cases:
        with in_case(name):
            done = check_policy(plan_of(BAD), [given], TODAY)
            assert (done.exit_code, done.counts[Status.VIOLATED]) == (Exit.MISMATCH, 1)


def test_an_unused_waiver_is_reported() -> None:
    cases: list[tuple[Waiver, str]] = [
        (waiver("postgres", "RDS.5", expires="2026-11-24"), "expired on 2026-11-24"),
        (waiver("gone", "RDS.5"), "names a resource that the stack does not have"),
        (waiver("postgres", "RDS.5", "RDS.2"), "has no effect on RDS.2"),
    ]
    for given, problem in cases:
        with in_case(given, problem):
            (note,) = check_policy(plan_of(BAD), [given], TODAY).notes
            assert note.waiver == given
            assert problem in note.problem


def test_waivers_for_losses_do_not_affect_the_rules() -> None:
    loss, rule = waiver("postgres", "DataLoss.retention"), waiver("postgres", "RDS.5")
    assert check_policy(plan_of(BAD), [loss, rule], TODAY).notes == ()
    assert check_losses(plan_of(BAD), [loss, rule], TODAY).notes == ()


def test_a_loss_is_accepted_only_with_its_waiver() -> None:
    refused = check_losses(plan_of(BAD), [waiver("postgres", "DataLoss.delete")], TODAY)
    passed = check_losses(plan_of(BAD), [waiver("postgres", "DataLoss.retention")], TODAY)
    assert (refused.exit_code, passed.exit_code) == (Exit.REFUSED, Exit.FINE)
    assert [f.status for f in passed.findings] == [Status.WAIVED]


def test_a_resource_that_a_short_preview_does_not_show_is_not_reported_as_unknown() -> None:
    content = preview(good_stack(), good_stack())
    steps = [step for step in content["steps"] if not step["urn"].endswith("::redis")]
    done = check_losses(plan_of(good_stack(), steps=steps), [waiver("redis", "DataLoss.delete")], TODAY)
    assert done.notes == ()
