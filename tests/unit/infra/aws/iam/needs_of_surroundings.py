"""What tasks, images, names, logs and alarms need."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit.infra.aws.iam.evaluator import REGION
from tests.unit.infra.aws.iam.identities import NEW, OURS, arn
from tests.unit.infra.aws.iam.need import (
    NAME,
    Inputs,
    Need,
    Table,
    each,
    grant,
    need,
    passed,
    read,
    service_role,
)


def _dashboard(i: Inputs) -> Iterator[Need]:
    dashboard = arn("cloudwatch", f"dashboard/{i['dashboardName']}").replace(REGION, "")
    for action in ("cloudwatch:PutDashboard", "cloudwatch:DeleteDashboards"):
        yield need(action, dashboard)
    yield from read("cloudwatch:GetDashboard")


def _log_group(i: Inputs) -> Iterator[Need]:
    actions = (
        "CreateLogGroup DeleteLogGroup PutRetentionPolicy AssociateKmsKey DisassociateKmsKey"
        " TagResource UntagResource"
    )
    yield from each("logs", actions, f"log-group:{i['name']}", NEW)
    yield from read("logs:DescribeLogGroups", "logs:ListTagsForResource")


def _metric_filter(i: Inputs) -> Iterator[Need]:
    yield from each("logs", "PutMetricFilter DeleteMetricFilter", f"log-group:{i['logGroupName']}")
    yield from read("logs:DescribeMetricFilters")


def _alarm(i: Inputs) -> Iterator[Need]:
    yield from each(
        "cloudwatch", "PutMetricAlarm DeleteAlarms TagResource UntagResource", f"alarm:{i['name']}", NEW
    )
    yield from read("cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource")


def _lifecycle(_: Inputs) -> Iterator[Need]:
    yield from each("ecr", "PutLifecyclePolicy DeleteLifecyclePolicy", f"repository/{NAME}-access")
    yield from read("ecr:GetLifecyclePolicy")


def _repository(i: Inputs) -> Iterator[Need]:
    actions = (
        "CreateRepository DeleteRepository PutImageScanningConfiguration PutImageTagMutability"
        " TagResource UntagResource"
    )
    yield from each("ecr", actions, f"repository/{i['name']}", NEW)
    yield grant()
    yield from read("ecr:DescribeRepositories", "ecr:ListTagsForResource")


def _cluster(i: Inputs) -> Iterator[Need]:
    actions = "CreateCluster UpdateCluster UpdateClusterSettings DeleteCluster TagResource UntagResource"
    yield from each("ecs", actions, f"cluster/{i['name']}", NEW)
    yield service_role("ecs")
    yield from read("ecs:DescribeClusters", "ecs:ListTagsForResource")


def _service(i: Inputs) -> Iterator[Need]:
    actions = "CreateService UpdateService DeleteService TagResource UntagResource"
    yield from each("ecs", actions, f"service/{NAME}/{i['name']}", NEW)
    yield from read("ecs:DescribeServices")


def _task_definition(i: Inputs) -> Iterator[Need]:
    # It is never deregistered: skip_destroy.
    assert i["skipDestroy"] is True
    yield from each(
        "ecs", "RegisterTaskDefinition TagResource UntagResource", f"task-definition/{i['family']}:*", NEW
    )
    yield passed("ecs-tasks.amazonaws.com")
    yield passed("ecs-tasks.amazonaws.com", i["family"])
    yield from read("ecs:DescribeTaskDefinition")


def _namespace(_: Inputs) -> Iterator[Need]:
    for action in ("servicediscovery:CreatePrivateDnsNamespace", "servicediscovery:TagResource"):
        yield need(action, "*", NEW, set_up=True)
    yield need(
        "route53:CreateHostedZone", "*", {"route53:VPCs": f"VPCId=vpc-1,VPCRegion={REGION}"}, set_up=True
    )
    yield need("route53:DeleteHostedZone", arn("route53", "hostedzone/Z1"), set_up=True)
    yield need(
        "servicediscovery:DeleteNamespace", arn("servicediscovery", "namespace/ns-1"), OURS, set_up=True
    )
    # https://docs.aws.amazon.com/cloud-map/latest/dg/cloud-map-api-permissions-ref.html
    yield need("route53:ListHostedZonesByName", "*", set_up=True)
    yield from read("ec2:DescribeRegions")
    yield from each("servicediscovery", "UpdatePrivateDnsNamespace", "namespace/ns-1", OURS)
    yield from read("servicediscovery:GetNamespace", "servicediscovery:GetOperation", "route53:GetHostedZone",
                     "servicediscovery:ListTagsForResource", "ec2:DescribeVpcs")  # fmt: skip


def _service_name(_: Inputs) -> Iterator[Need]:
    for resource, context in (("service/*", NEW), ("namespace/ns-1", NEW | OURS)):
        yield need("servicediscovery:CreateService", arn("servicediscovery", resource), context, set_up=True)
    for action in ("servicediscovery:DeleteService", "servicediscovery:DeregisterInstance"):
        yield need(action, arn("servicediscovery", "service/srv-1"), OURS, set_up=True)
    # What DeregisterInstance needs, by the same page.
    for action in ("GetHealthCheck", "DeleteHealthCheck", "UpdateHealthCheck"):
        yield need(f"route53:{action}", arn("route53", "healthcheck/h-1"), set_up=True)
    yield from read("servicediscovery:ListInstances")
    yield from each("servicediscovery", "UpdateService", "service/srv-1", OURS)
    yield from read("servicediscovery:GetService")


def _topic(i: Inputs) -> Iterator[Need]:
    yield from each(
        "sns", "CreateTopic SetTopicAttributes DeleteTopic TagResource UntagResource", i["name"], NEW
    )
    yield from read("sns:GetTopicAttributes", "sns:ListTagsForResource")


def _topic_policy(i: Inputs) -> Iterator[Need]:
    # The recording engine's ARN ends with the resource's name.
    yield from each("sns", "SetTopicAttributes", f"{NAME}-{i['arn'].rpartition(':')[2]}")


def _subscription(i: Inputs) -> Iterator[Need]:
    yield from each("sns", "Subscribe", f"{NAME}-{i['topic'].rpartition(':')[2]}")
    yield need("sns:Unsubscribe", "*", set_up=True)
    yield from read("sns:GetSubscriptionAttributes")


def _pushed_image(_: Inputs) -> Iterator[Need]:
    yield need("ecr:GetAuthorizationToken", "*")
    actions = (
        "BatchGetImage BatchCheckLayerAvailability InitiateLayerUpload UploadLayerPart"
        " CompleteLayerUpload PutImage"
    )
    yield from each("ecr", actions, f"repository/{NAME}-access")


def _task_run(_: Inputs) -> Iterator[Need]:
    cluster = {"ecs:cluster": arn("ecs", f"cluster/{NAME}")}
    yield from each("ecs", "RunTask", f"task-definition/{NAME}-bootstrap:7", cluster)
    yield passed("ecs-tasks.amazonaws.com", f"{NAME}-bootstrap")
    yield from each("logs", "GetLogEvents", "log-group:/groundwork/unit/bootstrap:log-stream:bootstrap/1")
    yield from read("ecs:ListTasks", "ecs:DescribeTasks")


TABLE: Table = {
    "aws:cloudwatch/dashboard:Dashboard": _dashboard,
    "aws:cloudwatch/logGroup:LogGroup": _log_group,
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": _metric_filter,
    "aws:cloudwatch/metricAlarm:MetricAlarm": _alarm,
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": _lifecycle,
    "aws:ecr/repository:Repository": _repository,
    "aws:ecs/cluster:Cluster": _cluster,
    "aws:ecs/service:Service": _service,
    "aws:ecs/taskDefinition:TaskDefinition": _task_definition,
    "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace": _namespace,
    "aws:servicediscovery/service:Service": _service_name,
    "aws:sns/topic:Topic": _topic,
    "aws:sns/topicPolicy:TopicPolicy": _topic_policy,
    "aws:sns/topicSubscription:TopicSubscription": _subscription,
    "pulumi-python:dynamic/aws:PushedImage": _pushed_image,
    "pulumi-python:dynamic/aws:TaskRun": _task_run,
}
