"""A stack's CloudWatch alarms, the subscriptions to RDS events, and a dashboard of the metrics with alarms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.notices import Notices
from infra.aws.site import AwsSite
from infra.spec.alarms import Alarm

_WIDTH, _HEIGHT, _COLUMNS = 8, 6, 3
# Source type -> the event categories to subscribe to.
_EVENTS = {
    "db-instance": (
        "availability",
        "backup",
        "configuration change",
        "deletion",
        "failover",
        "failure",
        "low storage",
        "maintenance",
        "notification",
        "read replica",
        "recovery",
    ),
    "db-parameter-group": ("configuration change",),
    "db-security-group": ("configuration change", "failure"),
}


@dataclass(frozen=True)
class AlarmsArgs:
    site: AwsSite
    notices: Notices
    alarms: Sequence[Alarm]
    # The names of the log groups whose lines are counted, by the keys that the alarms use.
    logs: Mapping[str, pulumi.Input[str]]
    # Identifiers of the RDS instances whose events are sent.
    instances: Sequence[pulumi.Input[str]]
    parameter_group: pulumi.Input[str]


class Alarms(pulumi.ComponentResource):
    """The alarms of a stack with their metric filters, its event subscriptions, and its dashboard."""

    # Its name in the console.
    dashboard: pulumi.Output[str]

    def __init__(self, name: str, args: AlarmsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Alarms", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site = args.site
        for alarm in args.alarms:
            if alarm.lines is not None:
                aws.cloudwatch.LogMetricFilter(
                    alarm.name,
                    name=site.name(alarm.name),
                    log_group_name=args.logs[alarm.lines.log],
                    pattern=alarm.lines.pattern,
                    metric_transformation=aws.cloudwatch.LogMetricFilterMetricTransformationArgs(
                        namespace=alarm.namespace, name=alarm.metric, value="1"
                    ),
                    opts=child,
                )
            aws.cloudwatch.MetricAlarm(
                alarm.name,
                name=site.name(alarm.name),
                alarm_description=alarm.what,
                namespace=alarm.namespace,
                metric_name=alarm.metric,
                dimensions=dict(alarm.dimensions) or None,
                comparison_operator=alarm.comparison,
                threshold=alarm.threshold,
                statistic=alarm.statistic,
                period=alarm.seconds,
                evaluation_periods=alarm.periods,
                datapoints_to_alarm=alarm.periods,
                treat_missing_data=alarm.missing,
                alarm_actions=[args.notices.topic],
                ok_actions=[args.notices.topic],
                tags=site.tags(alarm.name),
                opts=child,
            )
        sources: dict[str, list[pulumi.Input[str]] | None] = {
            "db-instance": list(args.instances),
            "db-parameter-group": [args.parameter_group],
            # All of the account: this stack does not use RDS's own security groups, so any event is unexpected.
            "db-security-group": None,
        }
        for source, categories in _EVENTS.items():
            aws.rds.EventSubscription(
                source,
                name=site.name(source),
                sns_topic=args.notices.topic,
                source_type=source,
                source_ids=sources[source],
                event_categories=list(categories),
                tags=site.tags(source),
                opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[args.notices])),
            )
        dashboard = aws.cloudwatch.Dashboard(
            "dashboard",
            dashboard_name=site.name(),
            dashboard_body=json.dumps({"widgets": widgets(args.alarms, site.region)}),
            opts=child,
        )
        self.dashboard = dashboard.dashboard_name
        self.register_outputs({"dashboard": self.dashboard})


def widgets(alarms: Iterable[Alarm], region: str) -> list[dict[str, Any]]:
    """Return a graph for each metric, with all servers and the alarm's threshold."""

    def metric_of(alarm: Alarm) -> tuple[str, str]:
        return alarm.namespace, alarm.metric

    found = []
    for number, ((namespace, metric), group) in enumerate(
        groupby(sorted(alarms, key=metric_of), key=metric_of)
    ):
        same = list(group)
        found.append(
            {
                "type": "metric",
                "x": number % _COLUMNS * _WIDTH,
                "y": number // _COLUMNS * _HEIGHT,
                "width": _WIDTH,
                "height": _HEIGHT,
                "properties": {
                    "title": metric,
                    "region": region,
                    "period": same[0].seconds,
                    "stat": same[0].statistic,
                    "metrics": [
                        [namespace, metric, *(part for pair in alarm.dimensions for part in pair)]
                        for alarm in same
                    ],
                    "annotations": {
                        "horizontal": [
                            {"label": "alarm", "value": value}
                            for value in sorted({a.threshold for a in same})
                        ]
                    },
                },
            }
        )
    return found
