"""Waivers: what a file may say, what it lets pass, and what is told of one that does nothing."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.policy.catalogue import IDS
from infra.policy.finding import Status
from infra.policy.plan import Plan
from infra.policy.waiver import FOLDER, Waiver, WaiverError, read_waivers, today
from ops.errors import Exit
from ops.policy.assessment import check_losses, check_policy
from tests.policy_stack import STACK, Stack, changed, good_stack, preview

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


def test_a_waiver_is_read_as_it_stands(tmp_path: Path) -> None:
    waiver = Waiver(URNS["postgres"], ("RDS.5",), "a small stack", datetime.date(2026, 12, 24))
    assert read(tmp_path, {"waivers": [GOOD]}) == (waiver,)
    assert read(tmp_path, {"waivers": []}) == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("waivers: [", "not valid YAML"),
        ("", "one key, `waivers`"),
        ([GOOD], "one key, `waivers`"),
        ({"waivers": GOOD}, "one key, `waivers`"),
        ({"waivers": [GOOD], "more": 1}, "one key, `waivers`"),
        ({"waivers": [GOOD, "x"]}, "waiver 2: has to have expires, reason, rules, urn"),
        ({"waivers": [{k: v for k, v in GOOD.items() if k != "expires"}]}, "has to have"),
        ({"waivers": [{k: v for k, v in GOOD.items() if k != "reason"}]}, "has to have"),
        ({"waivers": [{**GOOD, "until": "ever"}]}, "nothing else"),
        ({"waivers": [{**GOOD, "urn": "postgres"}]}, "resource's URN"),
        ({"waivers": [{**GOOD, "rules": "RDS.5"}]}, "list of rules"),
        ({"waivers": [{**GOOD, "rules": []}]}, "list of rules"),
        ({"waivers": [{**GOOD, "rules": ["RDS.5", "RDS.99"]}]}, "no rule 'RDS.99'"),
        ({"waivers": [{**GOOD, "rules": ["*"]}]}, "no rule '\\*'"),
        ({"waivers": [{**GOOD, "reason": "  "}]}, "has to say why"),
        ({"waivers": [{**GOOD, "expires": "never"}]}, "a date, like 2026-12-25"),
        ({"waivers": [{**GOOD, "expires": datetime.datetime(2026, 12, 24, 1, 2)}]}, "a date"),
        ({"waivers": [{**GOOD, "expires": datetime.date(2027, 12, 25)}]}, "more than a year"),
    ],
)
def test_a_file_that_is_not_right_waives_nothing(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(WaiverError, match=says) as error:
        read(tmp_path, content)
    assert str(tmp_path) in str(error.value)


def test_the_repositorys_own_waivers_can_be_read() -> None:
    assert {path.stem: read_waivers(path, IDS, today()) for path in FOLDER.glob("*.yaml")}.keys() <= STACKS


BAD = changed(good_stack(), "postgres", multiAz=False, backupRetentionPeriod=8)


def plan_of(new: Stack, **changes: Any) -> Plan:
    return Plan.parse(json.dumps(preview(good_stack(), new) | changes))


def waiver(name: str = "postgres", *rules: str, expires: str = "2026-12-24") -> Waiver:
    return Waiver(URNS.get(name, f"urn:pulumi:{STACK}::groundwork::t::{name}"), rules, "why", _date(expires))


def _date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@pytest.mark.parametrize("expires", ["2026-11-25", "2027-01-01"])
def test_a_waived_finding_is_shown_and_counts_no_more(expires: str) -> None:
    done = check_policy(plan_of(BAD), [waiver("postgres", "RDS.5", expires=expires)], TODAY)
    assert [(f.rule, f.status) for f in done.findings] == [("RDS.5", Status.WAIVED)]
    assert (done.exit_code, done.notes) == (Exit.FINE, ())


@pytest.mark.parametrize(
    "given",
    [
        waiver("replica", "RDS.5"),
        waiver("postgres", "RDS.2"),
        waiver("postgres", "DataLoss.retention"),
        waiver("postgres", "RDS.5", expires="2026-11-24"),
    ],
    ids=["another resource", "another rule", "a loss", "expired"],
)
def test_any_other_waiver_lets_nothing_pass(given: Waiver) -> None:
    done = check_policy(plan_of(BAD), [given], TODAY)
    assert (done.exit_code, done.counts[Status.VIOLATED]) == (Exit.MISMATCH, 1)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (waiver("postgres", "RDS.5", expires="2026-11-24"), "expired on 2026-11-24"),
        (waiver("gone", "RDS.5"), "names a resource that the stack does not have"),
        (waiver("postgres", "RDS.5", "RDS.2"), "waives nothing of RDS.2"),
    ],
)
def test_a_waiver_that_does_nothing_is_told(given: Waiver, problem: str) -> None:
    (note,) = check_policy(plan_of(BAD), [given], TODAY).notes
    assert note.waiver == given
    assert problem in note.problem


def test_the_firewalls_waivers_are_nothing_to_the_rules() -> None:
    loss, rule = waiver("postgres", "DataLoss.retention"), waiver("postgres", "RDS.5")
    assert check_policy(plan_of(BAD), [loss, rule], TODAY).notes == ()
    assert check_losses(plan_of(BAD), [loss, rule], TODAY).notes == ()


def test_a_loss_passes_by_its_waiver_alone() -> None:
    refused = check_losses(plan_of(BAD), [waiver("postgres", "DataLoss.delete")], TODAY)
    passed = check_losses(plan_of(BAD), [waiver("postgres", "DataLoss.retention")], TODAY)
    assert (refused.exit_code, passed.exit_code) == (Exit.REFUSED, Exit.FINE)
    assert [f.status for f in passed.findings] == [Status.WAIVED]


def test_a_resource_that_a_short_preview_leaves_out_is_not_called_unknown() -> None:
    content = preview(good_stack(), good_stack())
    steps = [step for step in content["steps"] if not step["urn"].endswith("::redis")]
    done = check_losses(plan_of(good_stack(), steps=steps), [waiver("redis", "DataLoss.delete")], TODAY)
    assert done.notes == ()
