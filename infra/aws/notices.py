"""Where alarms and events are told: an SNS topic, encrypted, that only this account's alarms and events write to."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import Site

# Who tells something: alarms, RDS's events, ElastiCache's.
TELLERS = ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com", "elasticache.amazonaws.com")


@dataclass(frozen=True)
class NoticesArgs:
    site: Site
    key: EncryptionKey


class Notices(pulumi.ComponentResource):
    """`topic`: the ARN of the settings' topic, or of one that is made."""

    topic: pulumi.Output[str]

    def __init__(self, name: str, args: NoticesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Notices", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        if settings.aws_alarm_topic:
            self.topic = pulumi.Output.from_input(settings.aws_alarm_topic)
        else:
            topic = aws.sns.Topic(
                "alarms",
                name=site.name("alarms"),
                kms_master_key_id=args.key.arn,
                tags=site.tags("alarms"),
                opts=child,
            )
            aws.sns.TopicPolicy(
                "alarms",
                arn=topic.arn,
                policy=pulumi.Output.all(topic.arn, site.account).apply(
                    lambda known: _policy(known[0], known[1])
                ),
                opts=child,
            )
            if settings.aws_alarm_email:
                aws.sns.TopicSubscription(
                    "alarms", topic=topic.arn, protocol="email", endpoint=settings.aws_alarm_email, opts=child
                )
            self.topic = topic.arn
        self.register_outputs({"topic": self.topic})


def _policy(topic: str, account: str) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": list(TELLERS)},
                    "Action": "sns:Publish",
                    "Resource": topic,
                    "Condition": {"StringEquals": {"aws:SourceAccount": account}},
                }
            ],
        }
    )
