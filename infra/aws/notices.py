"""Where alarms and events are told: SNS topics that only this account's alarms and events write to.

The one of alarms and of RDS is encrypted. ElastiCache tells nothing to an encrypted topic, nor to one whose policy asks
for aws:SourceAccount, so its events have a topic of their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.site import Site

# Who tells something to the encrypted topic: alarms, and RDS's events.
TELLERS = ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com")


@dataclass(frozen=True)
class NoticesArgs:
    site: Site
    key: EncryptionKey


class Notices(pulumi.ComponentResource):
    """ARNs: `topic` of alarms and RDS, `cache_topic` of ElastiCache; both the settings' topic where they name one.

    Whoever tells something waits for this component: AWS asks at once whether it may.
    """

    topic: pulumi.Output[str]
    cache_topic: pulumi.Output[str]

    def __init__(self, name: str, args: NoticesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Notices", name, None, opts)
        given = args.site.settings.aws_alarm_topic
        if given:
            self.topic = self.cache_topic = pulumi.Output.from_input(given)
        else:
            self.topic = self._make(
                args.site, "alarms", {"Service": list(TELLERS)}, "aws:SourceAccount", args.key
            )
            self.cache_topic = self._make(args.site, "cache-events", {"AWS": "*"}, "aws:SourceOwner")
        self.register_outputs({"topic": self.topic})

    def _make(
        self,
        site: Site,
        name: str,
        tellers: dict[str, Any],
        account_key: str,
        key: EncryptionKey | None = None,
    ) -> pulumi.Output[str]:
        """A topic that `tellers` write to; `account_key` is the condition by which they prove whose they are."""
        child = pulumi.ResourceOptions(parent=self)
        topic = aws.sns.Topic(
            name,
            name=site.name(name),
            kms_master_key_id=None if key is None else key.arn,
            tags=site.tags(name),
            opts=child,
        )
        aws.sns.TopicPolicy(
            name,
            arn=topic.arn,
            policy=pulumi.Output.all(topic.arn, site.account).apply(
                lambda known: _policy(known[0], tellers, {account_key: known[1]})
            ),
            opts=child,
        )
        if email := site.settings.aws_alarm_email:
            aws.sns.TopicSubscription(name, topic=topic.arn, protocol="email", endpoint=email, opts=child)
        return topic.arn


def _policy(topic: str, tellers: dict[str, Any], account: dict[str, str]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": tellers,
                    "Action": "sns:Publish",
                    "Resource": topic,
                    "Condition": {"StringEquals": account},
                }
            ],
        }
    )
