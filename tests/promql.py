"""Every expression of the alert rules and dashboards, the series that it names, and which of them do not exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from infra.monitoring.configuration import DASHBOARDS, RULES

# The labels of all series, by metric.
Series = dict[str, list[dict[str, str]]]
# Grafana replaces these variables before Prometheus sees the expression.
_VARIABLES = {"$__rate_interval": "5m"}


@dataclass(frozen=True)
class Selector:
    """A metric of an expression: the labels that select it, those that must equal a text, and the labels that an
    enclosing aggregation keeps."""

    metric: str
    matched: frozenset[str]
    equal: Mapping[str, str] = field(hash=False)
    grouped: frozenset[str]


def rule_expressions(folder: Path = RULES) -> dict[str, str]:
    """Return location (file and alert) -> expression."""
    return {
        f"{path.name}: {rule['alert']}": rule["expr"]
        for path in sorted(folder.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    }


def dashboard_expressions(folder: Path = DASHBOARDS) -> dict[str, str]:
    """Return location (file, panel and query, or variable) -> expression."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                found[f"{path.name}: {panel['title']} {target['refId']}"] = target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                values = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
                assert values is not None, f"{path.name}: {variable['name']}"
                found[f"{path.name}: ${variable['name']}"] = f"count by ({values[2]}) ({values[1]})"
    return found


def selectors(expression: str) -> list[Selector]:
    """Return the metrics of an expression. Raises ValueError if it is not valid PromQL."""
    return list(_walk(_parsed(expression), frozenset()))


def keeps_instance(expression: str) -> bool:
    """Return whether a result has the label `instance`, so that each server or process has a series of its own."""
    return _keeps_instance(_parsed(expression))


def _parsed(expression: str) -> Any:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def _keeps_instance(node: Any) -> bool:
    if isinstance(node, promql_parser.VectorSelector | promql_parser.MatrixSelector):
        return True
    if isinstance(node, promql_parser.AggregateExpr) and str(node.op) not in ("topk", "bottomk"):
        return node.modifier is not None and "instance" in node.modifier.labels and _keeps_instance(node.expr)
    if isinstance(node, promql_parser.Call) and node.func.name in ("scalar", "vector"):
        return False
    children = [getattr(node, name, None) for name in ("lhs", "rhs", "expr")] + list(
        getattr(node, "args", ())
    )
    return any(_keeps_instance(child) for child in children if child is not None)


def all_missing(expressions: Mapping[str, str], series: Series) -> dict[str, list[str]]:
    """Return what expressions use and no series has, by location."""
    found = {
        where: [gap for selector in selectors(expression) for gap in _missing(selector, series)]
        for where, expression in expressions.items()
    }
    return {where: gaps for where, gaps in found.items() if gaps}


def _missing(selector: Selector, series: Series) -> Iterator[str]:
    there = series.get(selector.metric)
    if there is None:
        yield f"no metric {selector.metric}"
        return
    for label in selector.matched | selector.grouped:
        if not any(label in labels for labels in there):
            yield f"{selector.metric} has no label {label}"
    for label, value in selector.equal.items():
        # A variable of Grafana stands for existing values.
        if not value.startswith("$") and not any(labels.get(label) == value for labels in there):
            yield f"{selector.metric} has no {label}={value!r}"


def _walk(node: Any, grouped: frozenset[str]) -> Iterator[Selector]:
    if isinstance(node, promql_parser.VectorSelector):
        assert node.name, "a selector without a metric's name"
        matchers = node.matchers.matchers
        yield Selector(
            node.name,
            frozenset(matcher.name for matcher in matchers),
            {m.name: m.value for m in matchers if m.op == promql_parser.MatchOp.Equal},
            grouped,
        )
        return
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        assert node.modifier.type == promql_parser.AggModifierType.By, (
            "use `by`, because `without` keeps unknown labels"
        )
        grouped = frozenset(node.modifier.labels)
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield from _walk(child, grouped)
    for child in getattr(node, "args", ()):
        yield from _walk(child, grouped)
