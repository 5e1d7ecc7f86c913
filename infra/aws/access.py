"""The access service on Fargate, which clients find by a DNS name inside the VPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.cluster import Cluster, Task
from infra.aws.site import AwsSite
from infra.spec.access import PORT


@dataclass(frozen=True)
class AccessArgs:
    site: AwsSite
    cluster: Cluster
    vpc_id: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    security_groups: Sequence[pulumi.Input[str]]
    environment: Mapping[str, pulumi.Input[str]]
    # ARN of the policy for logging in as role app.
    login_policy: pulumi.Input[str]
    starts_after: Sequence[pulumi.Resource]


class Access(pulumi.ComponentResource):
    """An ECS service that runs `groundwork serve`, with health checks on /readyz."""

    # Inside the VPC.
    url: pulumi.Output[str]
    # The dimension of its metrics.
    service_name: pulumi.Output[str]

    def __init__(self, name: str, args: AccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Access", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        definition = args.cluster.define(
            Task(
                name="access",
                command=["serve"],
                environment={
                    **args.environment,
                    "GROUNDWORK_POOL_SIZE": str(settings.access_pool_size),
                    "GROUNDWORK_INSTANCES": str(settings.aws_access_count),
                },
                policies=[args.login_policy],
                port=PORT,
                # Requests /readyz.
                health=["groundwork-health"],
            ),
            self,
        )
        namespace = aws.servicediscovery.PrivateDnsNamespace(
            "names",
            name=f"{site.name()}.internal",
            vpc=args.vpc_id,
            description="Names of this stack's services",
            tags=site.tags("names"),
            opts=child,
        )
        record = aws.servicediscovery.Service(
            "access",
            name="access",
            dns_config=aws.servicediscovery.ServiceDnsConfigArgs(
                namespace_id=namespace.id,
                routing_policy="MULTIVALUE",
                dns_records=[aws.servicediscovery.ServiceDnsConfigDnsRecordArgs(type="A", ttl=10)],
            ),
            # ECS reports the health of its tasks. Cannot be added to an existing service. AWS always uses 1, but the
            # provider leaves out a configuration without the number; the dictionary avoids a warning about it.
            health_check_custom_config={"failure_threshold": 1},
            # ECS deregisters its tasks with a delay, and a service with instances cannot be deleted.
            force_destroy=True,
            tags=site.tags("access"),
            opts=child,
        )
        service = aws.ecs.Service(
            "access",
            name="access",
            cluster=args.cluster.arn,
            task_definition=definition.arn,
            launch_type="FARGATE",
            desired_count=settings.aws_access_count,
            network_configuration=aws.ecs.ServiceNetworkConfigurationArgs(
                subnets=list(args.subnets),
                security_groups=list(args.security_groups),
                assign_public_ip=False,
            ),
            service_registries=aws.ecs.ServiceServiceRegistriesArgs(registry_arn=record.arn),
            # Stop an old task before a new one starts: both together would exceed role app's connection limit.
            deployment_maximum_percent=100,
            # Rebalancing starts a task before it stops another, so AWS refuses it at 100 %.
            availability_zone_rebalancing="DISABLED",
            deployment_minimum_healthy_percent=50 if settings.aws_access_count > 1 else 0,
            deployment_circuit_breaker=aws.ecs.ServiceDeploymentCircuitBreakerArgs(
                enable=True, rollback=True
            ),
            wait_for_steady_state=True,
            enable_execute_command=False,
            enable_ecs_managed_tags=True,
            propagate_tags="SERVICE",
            tags=site.tags("access"),
            opts=pulumi.ResourceOptions.merge(
                child, pulumi.ResourceOptions(depends_on=list(args.starts_after))
            ),
        )
        self.url = pulumi.Output.format("http://{0}.{1}:{2}", record.name, namespace.name, PORT)
        self.service_name = service.name
        self.register_outputs({"url": self.url})
