"""`groundwork policy` as users and CI run it: exit codes, JSON, SARIF, and no secrets in any output."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.policy.finding import Status
from infra.policy.rules import CATALOGUE
from infra.policy.value import UNKNOWN
from infra.policy.waiver import today
from ops.cli import main
from tests.cases import in_case
from tests.policy_stack import CANARY, STACK, Secret, Stack, changed, good_stack, preview, without
from tests.promises import promise

GOOD = preview(good_stack(), good_stack())
VIOLATED = preview(good_stack(), changed(good_stack(), "postgres", multiAz=False, copyTagsToSnapshot=UNKNOWN))
OPEN = preview(good_stack(), changed(good_stack(), "postgres", multiAz=UNKNOWN))
LOST = preview(good_stack(), changed(without(good_stack(), "redis"), "postgres", deletionProtection=False))
POSTGRES = next(each.urn for each in good_stack() if each.name == "postgres")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a preview. Return its exit code, and both outputs."""

    def run_(command: str, content: object, *arguments: str) -> tuple[int, str, str]:
        plan = tmp_path / "plan.json"
        plan.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(SystemExit) as exited:
            main(["policy", command, "--plan", str(plan), *arguments])
        out, err = capsys.readouterr()
        assert isinstance(exited.value.code, int)
        return exited.value.code, out, err

    return run_


def short(content: dict[str, Any]) -> dict[str, Any]:
    """Return the preview as Pulumi writes it without --show-sames."""
    return content | {"steps": [step for step in content["steps"] if step["op"] != "same"]}


def failed(content: dict[str, Any], urn: str = "") -> dict[str, Any]:
    return content | {"diagnostics": [{"severity": "error", "message": f"error: {CANARY}", "urn": urn}]}


def test_a_preview_of_another_stack_than_the_given_one_is_refused(run: Run) -> None:
    assert run("check", GOOD, "--stack", STACK)[0] == 0
    code, out, err = run("check", GOOD, "--stack", "another")
    assert (code, out) == (2, "")
    assert f"is of stack {STACK!r}, not of 'another'" in err


def test_the_exit_code_reflects_the_findings(run: Run) -> None:
    cases: list[tuple[str, object, int]] = [
        ("check", GOOD, 0),
        ("check", OPEN, 3),
        ("check", VIOLATED, 4),
        ("check", LOST, 4),
        ("check", short(VIOLATED), 2),
        ("check", failed(GOOD), 1),
        ("check", "Previewing update (prod):", 2),
        ("firewall", GOOD, 0),
        ("firewall", VIOLATED, 0),
        ("firewall", LOST, 7),
        ("firewall", short(LOST), 7),
        ("firewall", failed(LOST), 7),
        ("firewall", failed(GOOD, POSTGRES), 1),
        ("firewall", "{}", 2),
    ]
    for command, content, code in cases:
        with in_case(command, content, code):
            assert run(command, content)[0] == code


def test_a_mistake_in_a_file_of_waivers_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    entry = f"waivers:\n- urn: {POSTGRES}\n  rules: [RDS.2: a note]\n  reason: a\n  expires: "
    for text in (f"{entry}2026-02-30\n", f"{entry}{today()}\n", f"{entry}{today()}\nwaivers: []\n"):
        with in_case(text):
            file.write_text(text)
            code, _, err = run("check", VIOLATED, "--waivers", str(file))
            assert (code, err.count("\n")) == (2, 1)
            assert str(file) in err


@pytest.mark.parametrize("command", ["check", "firewall"])
def test_a_missing_plan_is_reported_with_its_name(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["policy", command, "--plan", "/nowhere/plan.json"])
    assert exited.value.code == 2
    assert "cannot read /nowhere/plan.json" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["/dev/zero", "-"])
def test_a_plan_without_an_end_is_refused(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/zero").open(encoding="utf-8") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        with pytest.raises(SystemExit) as exited:
            main(["policy", "check", "--plan", file])
    assert exited.value.code == 2
    name = "standard input" if file == "-" else file
    said = f"groundwork: cannot read {name}: it is larger than 64 MiB; pass another file\n"
    assert capsys.readouterr().err == said


def test_waivers_without_an_end_are_refused(run: Run) -> None:
    code, _, err = run("check", VIOLATED, "--waivers", "/dev/full")
    assert code == 2
    assert err == "groundwork: cannot read /dev/full: it is larger than 64 MiB; pass another file\n"


def test_json_and_yaml_that_are_nested_too_deeply_are_refused(run: Run, tmp_path: Path) -> None:
    waivers = tmp_path / "waivers.yaml"
    waivers.write_text("[" * 100_000)
    for content, arguments, said in (
        (waivers.read_text(), (), "is not JSON"),
        (VIOLATED, ("--waivers", str(waivers)), "is not valid YAML"),
    ):
        code, _, err = run("check", content, *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


def test_a_plan_can_be_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(VIOLATED).encode())))
    with pytest.raises(SystemExit) as exited:
        main(["policy", "check", "--plan", "-"])
    assert exited.value.code == 4
    assert "RDS.5: postgres: multiAz: must be true" in capsys.readouterr().out


def test_a_finding_names_the_resource_and_the_fix(run: Run) -> None:
    _, out, _ = run("check", VIOLATED)
    first, second, third, *_, last = out.splitlines()
    assert first == "RDS.5: postgres: multiAz: must be true (medium, violated)"
    assert (second.strip(), third.strip()) == (POSTGRES, "fix: set multiAz to true")
    resources = len(good_stack()) + 1
    assert last == (
        f"stack prod: 36 of 36 rules apply, {resources} resources: 1 violated, 1 undetermined, 0 waived"
    )


def test_a_refusal_shows_waivers_to_fill_in(run: Run, tmp_path: Path) -> None:
    _, _, err = run("firewall", LOST)
    shown = yaml.safe_load(err[err.index("\nwaivers:") :])
    assert [entry["rules"] for entry in shown["waivers"]] == [["DataLoss.delete"], ["DataLoss.protection"]]
    (tmp_path / "waivers.yaml").write_text(yaml.safe_dump(shown))
    code, _, err = run("firewall", LOST, "--waivers", str(tmp_path / "waivers.yaml"))
    assert (code, "reason must not be empty or a placeholder" in err) == (2, True)
    for entry in shown["waivers"]:
        entry["reason"] = "moved"
    (tmp_path / "waivers.yaml").write_text(yaml.safe_dump(shown))
    code, out, _ = run("firewall", LOST, "--waivers", str(tmp_path / "waivers.yaml"))
    assert (code, "waived until" in out) == (0, True)


def test_json_is_one_object_with_all_findings(run: Run) -> None:
    code, out, _ = run("check", VIOLATED, "--json")
    said = json.loads(out)
    assert (said["stack"], said["exit_code"], code) == (STACK, 4, 4)
    assert said["counts"] == {"violated": 1, "undetermined": 1, "waived": 0}
    assert said["findings"][0] == {
        "rule": "RDS.5",
        "title": "An instance has a standby in another availability zone",
        "severity": "medium",
        "status": "violated",
        "urn": POSTGRES,
        "property": "multiAz",
        "message": "must be true",
        "fix": "set multiAz to true",
        "position": "infra/aws/stack.py:12",
        "waiver": None,
    }


def test_list_contains_every_rule_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["policy", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)["rules"]
    assert [row["id"] for row in listed] == [each.id for each in CATALOGUE]
    with pytest.raises(SystemExit):
        main(["policy", "list"])
    assert len(capsys.readouterr().out.splitlines()) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("file", "code"), [("missing.yaml", 2), ("broken.yaml", 2)], ids=["missing", "broken"]
)
def test_an_invalid_file_of_waivers_is_an_error(run: Run, tmp_path: Path, file: str, code: int) -> None:
    (tmp_path / "broken.yaml").write_text("waivers: 7")
    assert run("check", GOOD, "--waivers", str(tmp_path / file))[0] == code


def waivers_file(folder: Path, **waiver: object) -> str:
    entry = {"reason": f"because {CANARY[::-1]}", "expires": today(), **waiver}
    path = folder / "waivers.yaml"
    path.write_text(yaml.safe_dump({"waivers": [entry]}))
    return str(path)


@promise("the SARIF file is valid, and its fingerprints are stable")
@pytest.mark.parametrize("command", ["check", "firewall"])
@pytest.mark.parametrize("content", [GOOD, OPEN, VIOLATED, LOST], ids=["good", "open", "violated", "lost"])
def test_sarif_is_valid(run: Run, tmp_path: Path, command: str, content: object) -> None:
    validate = pytest.importorskip("sarif_kit.validate")
    run(command, content, "--sarif", str(tmp_path / "findings.sarif"))
    log = json.loads((tmp_path / "findings.sarif").read_text())
    assert validate.validation_errors(log) == []
    assert validate.validation_errors(log | {"version": "2"}) != []


def sarif(run: Run, folder: Path, command: str, content: object, *arguments: str) -> list[dict[str, Any]]:
    run(command, content, "--sarif", str(folder / "findings.sarif"), *arguments)
    (logged,) = json.loads((folder / "findings.sarif").read_text())["runs"]
    rules = logged["tool"]["driver"]["rules"]
    results: list[dict[str, Any]] = logged["results"]
    assert [rules[r["ruleIndex"]]["id"] for r in results] == [r["ruleId"] for r in results]
    return results


def test_sarif_marks_undetermined_findings_as_open(run: Run, tmp_path: Path) -> None:
    results = sarif(run, tmp_path, "check", VIOLATED)
    assert [(r["ruleId"], r["kind"], r["level"]) for r in results] == [
        ("RDS.5", "fail", "warning"),
        ("RDS.17", "open", "none"),
    ]


def test_sarif_points_to_the_line_that_declares_the_resource(run: Run, tmp_path: Path) -> None:
    place = sarif(run, tmp_path, "check", VIOLATED)[0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "infra/aws/stack.py"
    assert place["physicalLocation"]["region"] == {"startLine": 12}
    assert place["logicalLocations"][0]["fullyQualifiedName"] == POSTGRES


def test_sarif_suppresses_waived_findings(run: Run, tmp_path: Path) -> None:
    waivers = waivers_file(tmp_path, urn=POSTGRES, rules=["RDS.5"])
    results = sarif(run, tmp_path, "check", VIOLATED, "--waivers", waivers)
    waived = next(result for result in results if result["ruleId"] == "RDS.5")
    assert "because" in waived["suppressions"][0]["justification"]
    assert all("suppressions" not in result for result in results if result is not waived)


@promise("the SARIF file is valid, and its fingerprints are stable")
def test_a_findings_fingerprint_does_not_depend_on_its_line(run: Run, tmp_path: Path) -> None:
    def prints(content: object) -> list[object]:
        return [r["partialFingerprints"] for r in sarif(run, tmp_path, "check", content)]

    moved = json.loads(json.dumps(VIOLATED).replace("stack.py#12", "postgres.py#40"))
    assert prints(moved) == prints(VIOLATED)
    assert len({json.dumps(each) for each in prints(VIOLATED)}) == 2


def with_canaries(stack: Stack) -> Stack:
    """Replace every text in a resource with data, except names, by a plain canary."""
    for each in stack:
        texts = {
            k: CANARY
            for k, v in each.properties.items()
            if isinstance(v, str) and k not in {"name", "userName"}
        }
        stack = changed(stack, each.name, **texts, tags={CANARY: Secret(CANARY)})
    return stack


@promise("policy never prints the value of a property")
@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("command", ["check", "firewall"])
def test_nothing_that_is_written_shows_a_value_of_the_plan(
    run: Run, tmp_path: Path, command: str, arguments: tuple[str, ...]
) -> None:
    """Including values that the engine did not know to be secret."""
    content = failed(preview(good_stack(), with_canaries(good_stack())))
    content["diagnostics"][0]["severity"] = "warning"
    path = tmp_path / "findings.sarif"
    code, out, err = run(command, content, *arguments, "--sarif", str(path))
    assert code in (4, 7)
    everything = out + err + path.read_text()
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode(), CANARY.encode().hex()):
        assert form not in everything
    assert CANARY in json.dumps(content)


def test_the_page_explains_every_status_rule_and_loss() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    assert [status for status in Status if f"\n| {status.value} |" not in page] == []
    rows = [f"| {each.id} | {each.severity.value} | {each.title} |" for each in CATALOGUE]
    assert [row for row in rows if f"\n{row}\n" not in page] == []
