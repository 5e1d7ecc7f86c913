"""SNS topics for alarms and events. Only this account's alarms and events can publish to them.

The topic of the alarms and of RDS's events is encrypted. ElastiCache cannot publish to an encrypted topic, or to one
whose policy requires aws:SourceAccount, so its events have a separate topic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.encryption import EncryptionKey
from infra.aws.session import client, translated_errors
from infra.aws.site import AwsSite
from infra.settings.declaration import full
from infra.spec.errors import SettingError

# The services that publish to the encrypted topic: CloudWatch alarms and RDS events.
TELLERS = ("cloudwatch.amazonaws.com", "events.rds.amazonaws.com")


@dataclass(frozen=True)
class NoticesArgs:
    site: AwsSite
    key: EncryptionKey


class Notices(pulumi.ComponentResource):
    """The ARNs of the topics: `topic` for alarms and RDS events, `cache_topic` for ElastiCache events.

    If the settings name a topic, both are that topic, which must not be encrypted. Resources that publish must depend
    on this component, because AWS checks the permission when they are created.
    """

    topic: pulumi.Output[str]
    cache_topic: pulumi.Output[str]

    def __init__(self, name: str, args: NoticesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Notices", name, None, opts)
        given = args.site.settings.aws_alarm_topic
        if given:
            _require_unencrypted(given, topic_attributes(given, args.site.region))
            self.topic = self.cache_topic = pulumi.Output.from_input(given)
        else:
            self.topic = self._make(
                args.site, "alarms", {"Service": list(TELLERS)}, "aws:SourceAccount", args.key
            )
            self.cache_topic = self._make(args.site, "cache-events", {"AWS": "*"}, "aws:SourceOwner")
        self.register_outputs({"topic": self.topic})

    def _make(
        self,
        site: AwsSite,
        name: str,
        publishers: dict[str, Any],
        account_key: str,
        key: EncryptionKey | None = None,
    ) -> pulumi.Output[str]:
        """Create a topic for `publishers`. `account_key` is the condition key that limits the account."""
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
                lambda known: _policy(known[0], publishers, {account_key: known[1]})
            ),
            opts=child,
        )
        if email := site.settings.aws_alarm_email:
            aws.sns.TopicSubscription(name, topic=topic.arn, protocol="email", endpoint=email, opts=child)
        return topic.arn


def topic_attributes(topic: str, region: str) -> Mapping[str, str]:
    """Return the attributes of an existing topic."""
    sns = client("sns", region)
    with translated_errors(f"reading topic {topic}"):
        found: dict[str, str] = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    return found


def _require_unencrypted(topic: str, attributes: Mapping[str, str]) -> None:
    if attributes.get("KmsMasterKeyId"):
        raise SettingError(
            full("awsAlarmTopic"),
            f"{topic} is encrypted, and ElastiCache cannot publish to an encrypted topic",
            "name a topic without a key, or remove the setting: groundwork then makes one topic of each kind",
        )


def _policy(topic: str, publishers: dict[str, Any], account: dict[str, str]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": publishers,
                    "Action": "sns:Publish",
                    "Resource": topic,
                    "Condition": {"StringEquals": account},
                }
            ],
        }
    )
