"""The ECS cluster, and the common parts of its tasks: logs, execution role, container hardening."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from infra.aws.assumption import assumed_by
from infra.aws.logs import Logs
from infra.aws.site import AwsSite
from infra.spec.access import UID
from infra.spec.quantity import parse_bytes

_ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}


@dataclass(frozen=True)
class ClusterArgs:
    site: AwsSite
    image: pulumi.Input[str]
    repository_arn: pulumi.Input[str]
    logs: Logs


@dataclass(frozen=True)
class Task:
    """A task with one container of the access image: its groundwork command, environment and IAM policies."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, pulumi.Input[str]]
    # ARNs of the IAM policies that the task gets.
    policies: Sequence[pulumi.Input[str]]
    port: int | None = None
    health: Sequence[str] = ()


class Cluster(pulumi.ComponentResource):
    """The cluster. `define` creates a task definition with its own role."""

    arn: pulumi.Output[str]
    name: pulumi.Output[str]

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Cluster", name, None, opts)
        self._args = args
        self._child = pulumi.ResourceOptions(parent=self)
        site = args.site
        # Without this group, Container Insights would create one without an encryption key.
        insights = args.logs.group(
            "container-insights", f"/aws/ecs/containerinsights/{site.name()}/performance", self
        )
        cluster = aws.ecs.Cluster(
            "tasks",
            name=site.name(),
            settings=[aws.ecs.ClusterSettingArgs(name="containerInsights", value="enabled")],
            tags=site.tags("tasks"),
            opts=pulumi.ResourceOptions.merge(self._child, pulumi.ResourceOptions(depends_on=[insights])),
        )
        self.arn, self.name = cluster.arn, cluster.name
        self.log_groups = {
            task: args.logs.group(f"task-{task}", f"/groundwork/{site.stack}/{task}", self)
            for task in ("access", "bootstrap")
        }
        self._execution = self._make_role(
            "execution", "Pulls the image and writes the logs of this stack's tasks"
        )
        self._execution_policy = aws.iam.RolePolicy(
            "execution",
            role=self._execution.name,
            policy=pulumi.Output.all(
                args.repository_arn, *(group.arn for group in self.log_groups.values())
            ).apply(lambda arns: _execution_policy(arns[0], arns[1:])),
            opts=self._child,
        )
        self.register_outputs({"arn": self.arn})

    def define(self, task: Task, parent: pulumi.Resource) -> aws.ecs.TaskDefinition:
        """Create a task definition. Any change of the task creates another revision."""
        site, settings = self._args.site, self._args.site.settings
        role = self._make_role(task.name, f"What the task {task.name} of this stack may do")
        attached = [
            aws.iam.RolePolicyAttachment(
                f"{task.name}-{number}",
                role=role.name,
                policy_arn=policy,
                opts=pulumi.ResourceOptions(parent=parent),
            )
            for number, policy in enumerate(task.policies)
        ]
        return aws.ecs.TaskDefinition(
            task.name,
            family=site.name(task.name),
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=str(settings.aws_access_cpu),
            memory=str(parse_bytes(settings.aws_access_memory) // 1024**2),
            runtime_platform=aws.ecs.TaskDefinitionRuntimePlatformArgs(
                cpu_architecture=_ARCHITECTURES[settings.aws_access_architecture],
                operating_system_family="LINUX",
            ),
            execution_role_arn=self._execution.arn,
            task_role_arn=role.arn,
            # Output.all does not resolve outputs inside nested dictionaries, so the environment is resolved separately.
            container_definitions=pulumi.Output.all(
                image=self._args.image,
                group=self.log_groups[task.name].name,
                environment=pulumi.Output.all(**task.environment),
            ).apply(lambda known: json.dumps([_container(task, site.region, known)])),
            # IAM cannot limit ecs:DeregisterTaskDefinition to a stack, so the deploying identity may not do it.
            skip_destroy=True,
            tags=site.tags(task.name),
            # A task that starts before its roles have their policies cannot pull its image.
            opts=pulumi.ResourceOptions(parent=parent, depends_on=[*attached, self._execution_policy]),
        )

    def _make_role(self, name: str, description: str) -> aws.iam.Role:
        site = self._args.site
        return aws.iam.Role(
            name,
            name=site.name(name),
            description=description,
            assume_role_policy=assumed_by("ecs-tasks.amazonaws.com", site),
            permissions_boundary=site.permissions_boundary,
            tags=site.tags(name),
            opts=self._child,
        )


def _container(task: Task, region: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the container definition: not root, no capabilities, a read-only root file system."""
    definition: dict[str, Any] = {
        "name": task.name,
        "image": known["image"],
        "essential": True,
        "entryPoint": ["groundwork"],
        "command": list(task.command),
        "user": f"{UID}:{UID}",
        "readonlyRootFilesystem": True,
        "linuxParameters": {"capabilities": {"drop": ["ALL"]}, "initProcessEnabled": True},
        "environment": [
            {"name": name, "value": value} for name, value in sorted(known["environment"].items())
        ],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": known["group"],
                "awslogs-region": region,
                "awslogs-stream-prefix": task.name,
            },
        },
        # Seconds in which a stopping service can finish its requests.
        "stopTimeout": 30,
    }
    if task.port is not None:
        definition["portMappings"] = [{"containerPort": task.port, "hostPort": task.port, "protocol": "tcp"}]
    if task.health:
        definition["healthCheck"] = {
            "command": ["CMD", *task.health],
            "interval": 10,
            "timeout": 5,
            "retries": 3,
            "startPeriod": 60,
        }
    return definition


def _execution_policy(repository: str, log_groups: Sequence[str]) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                # This action cannot be restricted to a repository.
                {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
                {
                    "Effect": "Allow",
                    "Action": [
                        "ecr:BatchCheckLayerAvailability",
                        "ecr:BatchGetImage",
                        "ecr:GetDownloadUrlForLayer",
                    ],
                    "Resource": repository,
                },
                {
                    "Effect": "Allow",
                    "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
                    "Resource": [f"{group.removesuffix(':*')}:*" for group in log_groups],
                },
            ],
        }
    )
