"""The comment: its content, order and length, and that no input can inject markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ops import cli
from ops.errors import Exit
from ops.markdown import code
from ops.pull_request.comment import LIMIT, MARKER
from tests.cases import in_case
from tests.promises import promise
from tests.unit.pull_request import inputs
from tests.unit.pull_request.conftest import Comment

CHANGED = inputs.step(
    "update",
    old={"instanceClass": "db.t4g.medium"},
    new={"instanceClass": "db.r7g.large"},
    diff={"instanceClass": "update"},
)


def test_it_begins_with_its_marker(comment: Comment) -> None:
    assert comment({"prod": inputs.preview(CHANGED)}).text.startswith(f"{MARKER}\n")


def test_a_changed_property_is_shown_with_both_values(comment: Comment) -> None:
    text = comment({"prod": inputs.preview(CHANGED)}).text
    assert "| `prod` | 1 changed | not checked | not checked |" in text
    assert "- `~` update `postgres` `aws:rds/instance:Instance`\n" in text
    assert "  - `instanceClass`: `db.t4g.medium` → `db.r7g.large`\n" in text


def test_the_steps_of_a_replacement_are_one_change_with_its_cause(comment: Comment) -> None:
    old, new = {"engine": "postgres", "az": "a"}, {"engine": "mysql", "az": "b"}
    diff = {"engine": "update-replace", "az": "update"}
    steps = [
        inputs.step(op, old=old, new=new, diff=diff)
        for op in ("create-replacement", "replace", "delete-replaced")
    ]
    text = comment({"prod": inputs.preview(*steps)}).text
    assert "1 replaced" in text
    assert text.count("`postgres` `aws:rds/instance:Instance`") == 1
    assert "`engine`: `postgres` → `mysql` (not in place)" in text
    assert "`az`: `a` → `b`\n" in text


def test_a_property_without_detail_is_named(comment: Comment) -> None:
    text = comment({"prod": inputs.preview(inputs.step("update", old={}, new={}, diffReasons=["size"]))}).text
    assert "  - `size`\n" in text


def test_inputs_are_compared_if_the_provider_gives_no_details(comment: Comment) -> None:
    old, new = {"size": 1, "same": 1, "__provider": "x", "a.b": "c"}, {"size": 2, "same": 1, "a.b": "d"}
    text = comment({"prod": inputs.preview(inputs.step("update", old=old, new=new))}).text
    assert "  - `a.b`: `c` → `d`\n  - `size`: `1` → `2`\n" in text
    assert "same" not in text
    assert "__provider" not in text


def test_a_change_of_secrets_only_is_reported(comment: Comment) -> None:
    same = {"files": "[secret]"}
    text = comment({"prod": inputs.preview(inputs.step("update", old=same, new=same))}).text
    assert "  - the difference is secret, or the provider does not report it\n" in text


def test_an_added_or_removed_list_item_has_one_side(comment: Comment) -> None:
    old, new = {"zones": ["a", "b"]}, {"zones": ["b", "c"]}
    diff = {"zones[0]": "delete", "zones[1]": "add-replace"}
    text = comment({"prod": inputs.preview(inputs.step("update", old=old, new=new, diff=diff))}).text
    assert "`zones[0]`: `a` → `(none)`\n" in text
    assert "`zones[1]`: `(none)` → `c` (not in place)" in text


def test_a_list_item_is_identified_by_its_name(comment: Comment) -> None:
    items = [{"name": "a", "value": "1"}], [{"name": "a", "value": "2"}]
    old, new = ({"parameters": each} for each in items)
    text = comment(
        {
            "prod": inputs.preview(
                inputs.step("update", old=old, new=new, diff={"parameters[0].value": "update"})
            )
        }
    ).text
    assert "`parameters[a].value`: `1` → `2`" in text


def test_an_added_or_removed_list_item_has_its_own_name(comment: Comment) -> None:
    old = {
        "gone": [{"name": "a", "value": 1}, {"name": "b", "value": 2}],
        "made": [{"name": "b", "value": 2}],
    }
    new = {"gone": [{"name": "b", "value": 2}], "made": [{"value": 1}, {"name": "b", "value": 2}]}
    diff = {"gone[0]": "delete", "gone[1].value": "delete", "made[0].value": "add"}
    text = comment({"prod": inputs.preview(inputs.step("update", old=old, new=new, diff=diff))}).text
    assert "`gone[a]`: `[2 properties]` → `(none)`" in text
    assert "`gone[b].value`: `2` → `(none)`" in text
    assert "`made[0].value`: `(none)` → `1`" in text


def test_the_worst_findings_come_first(comment: Comment) -> None:
    done = comment(
        {"prod": inputs.preview(CHANGED, inputs.step("create", "new"), inputs.step("delete", "old"))},
        [
            inputs.assessment("policy", inputs.finding()),
            inputs.assessment("firewall", inputs.finding(rule="DataLoss.delete")),
        ],
        inputs.plan(inputs.migration(10, inputs.statement("ALTER TABLE users ADD a int"))),
    )
    order = [
        "**Refused",
        "`DataLoss.delete`",
        "`RDS.3`",
        "delete `old`",
        "update `postgres`",
        "create `new`",
        "0010_what",
    ]
    assert sorted(order, key=done.text.index) == order


@pytest.mark.parametrize("has_squawk", [True, False])
def test_lint_findings_of_a_migration_are_below_its_locks(comment: Comment, has_squawk: bool) -> None:
    found = {"file": "0010_what.down.sql", "line": 3, "rule": "transaction-control", "message": "take it out"}
    migration = inputs.migration(10, inputs.statement("ALTER TABLE users ADD a int"), findings=[found])
    text = comment(plan=inputs.plan(migration, squawk=has_squawk)).text
    said = "- `0010_what.down.sql:3`, `transaction-control`: `take it out`"
    assert text.index("ACCESS EXCLUSIVE on `users`") < text.index(said)
    assert ("squawk is not installed" in text) is not has_squawk


def test_the_order_of_the_files_does_not_matter(comment: Comment) -> None:
    files = {
        "prod": inputs.preview(CHANGED),
        "staging": inputs.preview(inputs.step("create", stack="staging")),
    }
    found = [
        inputs.assessment("policy"),
        inputs.assessment("firewall"),
        inputs.assessment("policy", stack="staging"),
    ]
    there = comment(files, found)
    assert there == comment(dict(reversed(files.items())), found[::-1])
    assert there.text.index("`prod`") < there.text.index("`staging`")


def test_the_order_of_the_steps_does_not_matter(comment: Comment) -> None:
    steps = [inputs.step("create", name) for name in ("b", "a", "c")]
    assert comment({"prod": inputs.preview(*steps)}) == comment({"prod": inputs.preview(*reversed(steps))})


@pytest.mark.parametrize(
    ("previews", "findings", "code"),
    [
        ({"prod": inputs.preview(CHANGED)}, [], Exit.FINE),
        ({}, [inputs.assessment("policy"), inputs.assessment("firewall")], Exit.FINE),
        ({}, [inputs.assessment("policy", inputs.finding("undetermined"))], Exit.FINE),
        ({}, [inputs.assessment("policy", inputs.finding("waived"))], Exit.FINE),
        ({}, [inputs.assessment("firewall", inputs.finding("waived"))], Exit.FINE),
        ({}, [inputs.assessment("policy", inputs.finding())], Exit.MISMATCH),
        ({}, [inputs.assessment("firewall", inputs.finding())], Exit.REFUSED),
        ({}, [inputs.assessment("firewall", inputs.finding("undetermined"))], Exit.REFUSED),
        ({"prod": ""}, [], Exit.ERROR),
        ({"prod": ""}, [inputs.assessment("policy", inputs.finding())], Exit.MISMATCH),
        ({"prod": inputs.preview(diagnostics=[{"severity": "error", "message": "x"}])}, [], Exit.ERROR),
        ({"prod": inputs.preview(diagnostics=[{"severity": "warning", "message": "x"}])}, [], Exit.FINE),
    ],
)
def test_the_exit_code_reflects_the_findings(
    comment: Comment, previews: dict[str, str], findings: list[str], code: Exit
) -> None:
    assert comment(previews, findings).code == code


def test_a_failed_preview_is_reported_with_the_resource(comment: Comment) -> None:
    error = {"severity": "error", "message": "x", "urn": inputs.urn("postgres")}
    text = comment({"prod": inputs.preview(diagnostics=[error])}).text
    assert "**preview failed**" in text
    assert "failed at `postgres`" in text
    assert "no change" not in text


def test_a_waiver_is_shown_with_its_reason_and_day(comment: Comment) -> None:
    waived = inputs.finding("waived", waiver=inputs.waiver("moved by hand"))
    assert (
        "waived `until 2026-12-01: moved by hand`"
        in comment(findings=[inputs.assessment("firewall", waived)]).text
    )


def test_waiver_without_effect_is_reported(comment: Comment) -> None:
    idle = inputs.waiver("moved", problem="has no effect on RDS.3; remove it")
    text = comment(findings=[inputs.assessment("policy", waivers=[idle])]).text
    assert f"- waiver: `RDS.3 for {inputs.urn('postgres')}: has no effect on RDS.3; remove it`" in text


def test_missing_checks_are_reported(comment: Comment) -> None:
    text = comment({"prod": inputs.preview()}).text
    assert "not checked | not checked" in text
    assert "Migrations: not planned" in text


def test_a_missing_check_is_an_error_only_if_checks_are_required(comment: Comment) -> None:
    policy, firewall = inputs.assessment("policy"), inputs.assessment("firewall")
    violated, lost = (inputs.assessment(kind, inputs.finding()) for kind in ("policy", "firewall"))
    fine, failed, plan = inputs.preview(CHANGED), "", inputs.plan()
    cases: list[tuple[str, list[str], str | None, Exit, list[str]]] = [
        (fine, [policy, firewall], plan, Exit.FINE, []),
        (fine, [policy], plan, Exit.ERROR, ["`policy firewall` of `prod`"]),
        (fine, [firewall], plan, Exit.ERROR, ["`policy check` of `prod`"]),
        (fine, [policy, firewall], None, Exit.ERROR, ["`migrate plan`"]),
        (fine, [violated], plan, Exit.MISMATCH, ["`policy firewall` of `prod`"]),
        (fine, [lost], None, Exit.REFUSED, ["`policy check` of `prod`", "`migrate plan`"]),
        (failed, [], plan, Exit.ERROR, []),
        (failed, [], None, Exit.ERROR, ["`migrate plan`"]),
    ]
    for preview, findings, planned, code_, missing in cases:
        with in_case(preview, findings, planned):
            done = comment({"prod": preview}, findings, planned, "--require-checks")
            assert done.code == code_
            said = f"**A check did not run, so this comment is incomplete:** {', '.join(missing)}."
            assert (said in done.text) is bool(missing)
            assert ("A check did not run" in done.text) is bool(missing)
            assert ("Nothing is refused." in done.text) is (code_ is Exit.FINE)
            assert "A check did not run" not in comment({"prod": preview}, findings, planned).text


# --- no input is interpreted as markup

ATTACKS = [
    "a|b",
    "a\\|b",
    "a`b",
    "``a``",
    "`",
    "<img src=x>",
    "</details><h1>taken",
    "@everybody",
    "a\n# taken",
    "a\r\n| b",
    "[a](https://evil.example)",
    "![a](https://evil.example/x.png)",
    "https://evil.example",
    "www.evil.example",
    "**a**",
    "__a__",
    "<!-- groundwork:report -->",
    "#1",
    "a\u2028b",
    "\u202etxet",
    "\x1b[31m",
    "",
    "```\na\n```",
]


def _without_code(text: str) -> str:
    """Return the Markdown that remains after code spans are removed, by CommonMark's rule."""
    out, at = [], 0
    while (start := re.compile("`+").search(text, at)) is not None:
        fence = start[0]
        end = re.compile(rf"(?<!`){fence}(?!`)").search(text, start.end())
        if end is None:
            break
        out.append(text[at : start.start()])
        at = end.end()
    return "".join([*out, text[at:]])


def test_a_code_span_ends_at_its_own_delimiter() -> None:
    for attack in ATTACKS:
        with in_case(attack):
            shown = code(attack)
            assert "\n" not in shown
            assert "|" not in shown
            left = _without_code(f"x {shown} y")
            if "|" not in attack:
                assert left == "x  y"
            else:
                assert "`" not in left.removeprefix("x <code>").removesuffix("</code> y")


@promise("no outside name or message breaks out of its code span")
@pytest.mark.parametrize("attack", [a for a in ATTACKS if a], ids=ascii)
def test_no_name_can_inject_markup(comment: Comment, attack: str) -> None:
    done = comment(
        {
            "prod": inputs.preview(
                inputs.step("create", attack.replace("::", "")),
                inputs.step("update", "p", {attack: 1}, {attack: 2}, diff={attack: "update"}),
            )
        },
        [
            inputs.assessment(
                "policy",
                inputs.finding(message=attack, fix=attack, property=attack, rule=attack),
            )
        ],
        inputs.plan(
            inputs.migration(
                10,
                inputs.statement(attack, attack),
                findings=[{"file": attack, "line": 1, "rule": attack, "message": attack}],
            )
        ),
    )
    assert done.code == Exit.MISMATCH
    assert done.text.count(MARKER) - _spans(done.text).count(MARKER) == 1
    bare = re.sub(r"<code>[\w &#;]*</code>", "", _without_code(done.text))
    for mark in ("evil", "@everybody", "<img", "<h1", "[a]", "\x1b", "\u202e", "\u2028"):
        assert mark not in bare
    # Each line was written by the comment's code, not by an input.
    for line in done.text.splitlines():
        assert line == "" or line.startswith(
            ("<!--", "#", "**", "|", "- ", "  - ", "<details>", "</details>")
        ), line
    widths = {line.count("|") for line in done.text.splitlines() if line.startswith("| ")}
    assert widths <= {4, 5}


def _spans(text: str) -> str:
    return " ".join(re.findall(r"`[^`]*`", text))


# --- length


@promise("the comment is shorter than 64,000 characters and names what it omits")
def test_a_huge_change_stays_below_the_limit_and_reports_omissions(comment: Comment) -> None:
    many = [
        inputs.step(
            "update",
            f"{n:05}{'x' * 60}",
            {f"p{i}": 1 for i in range(30)},
            {f"p{i}": 2 for i in range(30)},
            diff={f"p{i}": "update" for i in range(30)},
        )
        for n in range(1500)
    ]
    found = [inputs.finding(message="m" * 600, property=f"p{n}") for n in range(900)]
    plans = [
        inputs.migration(n, *[inputs.statement("ALTER TABLE x " + "y" * 300) for _ in range(40)])
        for n in range(10, 60)
    ]
    done = comment(
        {"prod": inputs.preview(*many)}, [inputs.assessment("policy", *found)], inputs.plan(*plans)
    )
    assert len(done.text) <= LIMIT < 64_000
    assert len(done.text) > LIMIT * 0.8
    assert (
        "more were left out for lack of space; see all with `groundwork preview --diff --stack prod`"
        in done.text
    )
    assert (
        "more were left out for lack of space; see all with `groundwork policy check --stack prod`"
        in done.text
    )
    assert "1500 changed" in done.text
    assert done.text.count("<details>") == done.text.count("</details>") == 1


def test_shown_and_omitted_changes_add_up(comment: Comment) -> None:
    many = [inputs.step("create", f"{n:05}{'x' * 60}") for n in range(2000)]
    text = comment({"prod": inputs.preview(*many)}).text
    left = re.search(r"- … (\d+) more were left out", text)
    assert left is not None
    assert int(left[1]) + text.count("- `+` create ") == 2000


def test_stacks_that_do_not_fit_are_mentioned(comment: Comment) -> None:
    names = [f"s{n:04}{'x' * 40}" for n in range(600)]
    done = comment({name: inputs.preview(inputs.step("create", stack=name)) for name in names})
    assert len(done.text) <= LIMIT
    assert "whole sections were left out for lack of space" in done.text


# --- refused input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--markdown", "-"], "--markdown needs input"),
        (["--markdown", "-", "--preview", "prod"], "use STACK=FILE"),
        (["--markdown", "-", "--preview", "prod=nowhere.json"], "cannot read nowhere.json"),
        (["--markdown", "-", "--preview", "prod={list}"], "is not a preview"),
        (["--markdown", "-", "--preview", "prod={text}"], "is not JSON"),
        (["--markdown", "-", "--preview", "prod={deep}"], "is not JSON"),
        (["--markdown", "-", "--findings", "{deep}"], "has no findings"),
        (["--markdown", "-", "--plan", "{deep}"], "is not a plan"),
        (["--markdown", "-", "--plan", "/dev/zero"], "is larger than 64 MiB"),
        (["--markdown", "-", "--preview", "dev={preview}"], "of stack 'prod', not of 'dev'"),
        (["--markdown", "-", "--preview", "prod={preview}", "--preview", "prod={preview}"], "is given twice"),
        (["--markdown", "-", "--findings", "{preview}"], "has no findings"),
        (["--markdown", "-", "--plan", "{preview}"], "is not a plan"),
        (
            ["--markdown", "-", "--preview", "prod={preview}", "--json"],
            "--json has no effect with --markdown",
        ),
        (["--markdown", "-", "--preview", "prod={preview}", "--stack", "dev"], "--stack has no effect"),
        (["--preview", "prod={preview}", "--json"], "--preview has no effect without --markdown"),
        (["--markdown", "nowhere/x.md", "--preview", "prod={preview}"], "nowhere is not a directory"),
    ],
)
def test_invalid_input_is_one_line_and_no_comment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    files = {"list": "[]", "text": "error: no", "preview": inputs.preview(CHANGED), "deep": "[" * 100_000}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = {name: str(tmp_path / name) for name in files}
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", *(argument.format(**paths) for argument in arguments)])
    out, error = capsys.readouterr()
    assert (ended.value.code, out) == (Exit.USAGE, "")
    assert said in error
    assert error.count("\n") == 1


def test_the_file_is_written_atomically(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(inputs.preview(CHANGED))
    target = tmp_path / "comment.md"
    target.write_text("the one before")
    with pytest.raises(SystemExit) as ended:
        cli.main(["report", "--markdown", str(target), "--preview", f"prod={tmp_path / 'p.json'}"])
    assert ended.value.code == Exit.FINE
    assert target.read_text().startswith(MARKER)


def test_a_plan_is_read_back_from_its_json() -> None:
    from ops.migrations.plan import PendingPlan

    content = json.loads(inputs.plan(inputs.migration(10, inputs.statement("SELECT 1"))))
    content["pending"][0]["strongest_lock"] = "ACCESS EXCLUSIVE"
    assert json.loads(json.dumps(PendingPlan.from_json(content).as_json())) == content
