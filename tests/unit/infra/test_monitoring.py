"""Alert rules and dashboards as files: complete, documented and valid. Other tests check with a live scrape that their
metrics exist.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from db import errors
from infra.monitoring import configuration
from infra.monitoring.configuration import DASHBOARDS, RULES
from infra.monitoring.replicas import REPLICA_DASHBOARDS, REPLICA_RULES
from infra.spec.redis_acl import LOCAL_USERS, OPS
from tests.cases import in_case
from tests.promises import promise
from tests.promql import dashboard_expressions, keeps_instance, rule_expressions, selectors
from tests.unit.documentation import pages

ALERTS: list[dict[str, Any]] = [
    rule
    for path in sorted(RULES.rglob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
# Every error of the data access, by who can change it: the server and the network, or the caller.
SERVERS_ERRORS = {
    "ConnectionLost",
    "DeadlineExceeded",
    "LockTimeout",
    "OutcomeUnknown",
    "QueryFailed",
    "Unavailable",
}
CALLERS_ERRORS = {
    "ConstraintViolated",
    "IdempotencyKeyReused",
    "InvalidCursor",
    "InvalidInput",
    "InvalidRow",
    "InvalidSetting",
    "NotFound",
    "TokenUnreadable",
    "TransactionAborted",
    "TransactionBusy",
    "TransactionConflict",
    "TransactionOver",
    "TransactionRequired",
    "UnknownTokenKey",
    "VersionConflict",
}
CASES = pages.ROOT / "tests" / "integration" / "monitoring" / "alerts"
BOARDS = sorted(DASHBOARDS.rglob("*.json"))
every_board = pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.name)


def test_an_alert_has_a_severity_a_summary_and_an_action() -> None:
    for alert in ALERTS:
        assert set(alert) - {"for"} == {"alert", "expr", "labels", "annotations"}, alert["alert"]
        assert alert["labels"].keys() == {"severity"}, alert["alert"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, alert["alert"]
        assert alert["annotations"].keys() == {"summary", "action", "runbook"}, alert["alert"]


@promise("every alert links to its own runbook")
def test_an_alert_links_to_its_own_runbook() -> None:
    for alert in ALERTS:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert anchor == alert["alert"].lower()
        assert anchor in pages.anchors((pages.ROOT / page).read_text()), alert["alert"]


def test_a_command_of_an_alert_names_the_stack() -> None:
    named = ("--stack {{ $externalLabels.stack }}", "STACK={{ $externalLabels.stack }}")
    commands = [
        command
        for alert in ALERTS
        for command in re.findall(r"`((?:groundwork|make) [^`]+)`", " ".join(alert["annotations"].values()))
    ]
    assert len(commands) >= 20
    assert [command for command in commands if not command.endswith(named)] == []


def test_no_two_alerts_share_a_name() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names) >= 30


def test_every_runbook_on_the_page_has_an_alert() -> None:
    page = (pages.ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^#### (\w+)$", page, re.MULTILINE)) == {alert["alert"] for alert in ALERTS}


def test_every_alert_fires_in_a_case_of_promtool() -> None:
    fired = {
        test["alertname"]
        for path in CASES.glob("*.yml")
        for case in yaml.safe_load(path.read_text())["tests"]
        for test in case["alert_rule_test"]
        if test["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in ALERTS}


@pytest.mark.parametrize(
    ("title", "is_ended"),
    [
        ("postgres: readonly_a groundwork 10.0.0.5(40312) idle", True),
        # With replicas, titles contain cluster_name.
        ("postgres: groundwork: readonly_a groundwork 10.0.0.5(40312) idle", True),
        ("postgres: app_a groundwork 10.0.0.5(40312) idle", False),
        ("postgres: groundwork: autovacuum launcher ", False),
        ('sh -c grep -laE "^postgres: readonly_a " /proc/1/cmdline', False),
    ],
)
def test_the_runbook_finds_the_sessions_of_a_login_by_their_title(title: str, is_ended: bool) -> None:
    page = (pages.ROOT / "docs" / "monitoring.md").read_text()
    (pattern,) = re.findall(r'grep -laE "([^"]+)" /proc', page)
    assert bool(re.search(pattern, title)) == is_ended


def test_user_ops_may_call_the_redis_commands_that_alerts_and_runbooks_name() -> None:
    """`groundwork redis-cli` logs in as this user."""
    with_subcommand = {
        name.split("|")[0].upper() for user in LOCAL_USERS for name in user.commands if "|" in name
    }
    named = set()
    for alert in ALERTS:
        text = " ".join(alert["annotations"].values())
        named |= set(re.findall(rf"\b({'|'.join(with_subcommand)}) ([A-Z]+)\b", text))
    page = (pages.ROOT / "docs" / "monitoring.md").read_text()
    for command, argument in re.findall(r"redis-cli (?:--stack \S+ )?([A-Z]+) ?([A-Za-z]*)", page):
        named.add((command, argument if command in with_subcommand else ""))
    commands = {"|".join(filter(None, words)).lower() for words in named}
    assert {"client|list", "info"} <= commands
    assert commands - set(OPS.commands) == set()


def test_an_expression_is_promql_that_names_a_metric() -> None:
    expressions = rule_expressions() | dashboard_expressions()
    expressions |= rule_expressions(REPLICA_RULES) | dashboard_expressions(REPLICA_DASHBOARDS)
    for where, expression in expressions.items():
        assert selectors(expression), where


def test_invalid_promql_is_detected() -> None:
    for expression in ("sum by (", "rate(x)) > 1", "x{a=}"):
        with in_case(expression):
            with pytest.raises(ValueError, match=r"."):
                selectors(expression)


def test_all_selectors_of_an_expression_are_found() -> None:
    expression = 'sum by (a) (rate(x{b="1", c=~"$d"}[$__rate_interval])) / on (a) (y offset 5m) or topk(3, z)'
    found = {selector.metric: selector for selector in selectors(expression)}
    assert set(found) == {"x", "y", "z"}
    assert found["x"].matched == {"b", "c"}
    assert found["x"].equal == {"b": "1"}
    assert found["x"].grouped == {"a"}


def test_an_error_counts_as_a_failed_query_if_the_caller_did_not_cause_it() -> None:
    (alert,) = (alert for alert in ALERTS if alert["alert"] == "QueriesFail")
    listed = re.search(r'outcome=~"([\w|]+)"', alert["expr"])
    assert listed is not None
    found = {
        name for name, kind in vars(errors).items() if getattr(kind, "__module__", "") == errors.__name__
    }
    assert found - {"DbError"} == CALLERS_ERRORS | SERVERS_ERRORS
    assert set(listed[1].split("|")) == SERVERS_ERRORS


@every_board
def test_grafana_can_read_a_dashboard_without_loss(path: Path) -> None:
    """Grafana's library has its schema; a field that it does not know would be lost."""
    register_default_plugins()
    board = json.loads(path.read_text())
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))
    assert list(_lost(board, read)) == []
    assert board["uid"] == f"groundwork-{path.stem}"


def test_an_unknown_field_is_detected() -> None:
    register_default_plugins()
    board = json.loads(BOARDS[0].read_text())
    board["panels"][1]["gridPosition"] = board["panels"][1].pop("gridPos")
    read = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board)))
    assert ".panels[1].gridPosition" in list(_lost(board, read))


@every_board
def test_a_dashboard_takes_its_data_source_from_a_variable(path: Path) -> None:
    board = json.loads(path.read_text())
    variables = {variable["name"]: variable["type"] for variable in board["templating"]["list"]}
    assert variables["datasource"] == "datasource"
    for panel in board["panels"]:
        for part in [panel, *panel.get("targets", ())] if panel["type"] != "row" else []:
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    used = set(re.findall(r"\$(?!__)\{?(\w+)", json.dumps(board["panels"])))
    assert used <= set(variables)


@every_board
def test_a_legend_distinguishes_the_servers_of_a_plot(path: Path) -> None:
    """With replicas, an expression that is not aggregated has a line for each server."""
    for title, target in _targets(path):
        metrics = {selector.metric for selector in selectors(target["expr"])}
        # A rule of `make up` records it, without an instance.
        if keeps_instance(target["expr"]) and metrics != {
            "groundwork_certificate_not_after_timestamp_seconds"
        }:
            assert "{{instance}}" in target["legendFormat"], f"{title} {target['refId']}"


@every_board
def test_a_plot_does_not_add_up_servers(path: Path) -> None:
    """Statements are added up, because one may run on several servers. Members and Sentinels are counted."""
    added = re.compile(
        r"\bsum(?: by \(([\w, ]+)\) )?\((?:rate\()?((?:pg|redis)_(?!statement_|sentinel_up)\w+)"
    )
    for title, target in _targets(path):
        for labels, metric in added.findall(target["expr"]):
            assert "instance" in labels.split(", "), f"{title} {target['refId']}: {metric}"


def test_it_is_detected_that_a_result_has_an_instance() -> None:
    for expression, expected in (
        ("rate(x[5m]) / y", True),
        ("topk(3, x)", True),
        ("scalar(max(x)) - y", True),
        ("sum by (instance, a) (x) * 60", True),
        ("histogram_quantile(0.9, sum by (instance, le) (rate(x[5m])))", True),
        ("topk(3, max by (a) (x))", False),
        ("time() - max(x > 0)", False),
        ("sum by (a) (x) / sum(y)", False),
    ):
        with in_case(expression):
            assert keeps_instance(expression) is expected


def test_connections_in_use_are_those_that_are_not_idle() -> None:
    """`groundwork_db_pool_size` counts idle connections too."""
    in_use = [
        target["expr"]
        for path in BOARDS
        for _, target in _targets(path)
        if "in use" in target["legendFormat"]
    ]
    assert len(in_use) >= 1
    for expression in in_use:
        assert "groundwork_db_pool_size" not in expression or "- groundwork_db_pool_available" in expression


@every_board
def test_panels_of_a_dashboard_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads(path.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert taken.isdisjoint(cells), panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    ("password", "line"),
    [("Zm9v-_bar", "*:*:*:monitor_a:Zm9v-_bar\n"), ("a:b\\c", "*:*:*:monitor_a:a\\:b\\\\c\n")],
)
def test_a_password_is_escaped_for_libpq(password: str, line: str) -> None:
    assert configuration.pgpass({"monitor_a": password}) == line


@promise("each secret is passed as a file, never in a variable, label or command line")
def test_no_command_line_or_environment_of_an_exporter_contains_a_password() -> None:
    words = [
        *configuration.postgres_exporter_command(),
        *configuration.redis_exporter_command("rediss://redis:6379", "monitor"),
        *configuration.postgres_exporter_environment("postgres", 5432, "monitor_a"),
    ]
    assert [word for word in words if re.search(r"(?i)pass(word)?(=|$)", word)] == []


def _targets(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the title and the query of each line in the panels of a dashboard."""
    panels = json.loads(path.read_text())["panels"]
    return [(panel["title"], target) for panel in panels for target in panel.get("targets", ())]


def _lost(given: Any, read: Any, path: str = "") -> Any:
    """Yield the paths of values that are missing in `read`. Empty values may be missing."""
    if isinstance(given, dict):
        for key, value in given.items():
            if value not in (None, {}, [], "") or key in (read or {}):
                yield from _lost(value, read.get(key), f"{path}.{key}") if isinstance(read, dict) else [path]
    elif isinstance(given, list):
        if len(given) != len(read or ()):
            yield path
            return
        for n, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from _lost(one, other, f"{path}[{n}]")
    elif given != read:
        yield path
