"""moto's server as a process on 127.0.0.1, extended by what the real AWS provider needs and moto lacks.

Each extension answers as the service's API reference documents it. The server prints its port, and appends the name of
each requested action to the file that its argument names.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import moto.ec2.urls
import moto.ecr.urls
import moto.ecs.urls
import moto.elasticache.urls
import moto.rds.urls
from moto.core.responses import ActionResult, BaseResponse
from moto.ec2.responses import EC2Response
from moto.ecr.responses import ECRResponse
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.rds.responses import RDSResponse
from moto.server import ThreadedMotoServer

from infra.spec import rds_defaults
from tests.infra.aws_provider.elasticache import ElastiCache

# RDS installs a minor version of the requested major version.
_MINOR = ".12"
_DIGEST = f"sha256:{'1' * 64}"
_tasks: dict[str, dict[str, Any]] = {}


class Ec2(EC2Response):
    """Rules of security groups with their description, of which moto keeps only that of an address range."""

    def authorize_security_group_ingress(self) -> ActionResult:
        return self._described(super().authorize_security_group_ingress())

    def authorize_security_group_egress(self) -> ActionResult:
        return self._described(super().authorize_security_group_egress())

    def _described(self, result: ActionResult) -> ActionResult:
        """Add the description to the only rule of the request."""
        for name, (value, *_) in self.querystring.items():
            if name.endswith(".Description"):
                answer: Any = result._result
                (rule,) = answer["SecurityGroupRules"]
                rule.ip_range["Description"] = value
        return result


class Rds(RDSResponse):
    """Instances with their own id, minor version and Performance Insights, and parameters with their source."""

    def create_db_instance(self) -> ActionResult:
        return self._identified(super().create_db_instance())

    def create_db_instance_read_replica(self) -> ActionResult:
        return self._identified(super().create_db_instance_read_replica())

    def restore_db_instance_to_point_in_time(self) -> ActionResult:
        return self._restored(super().restore_db_instance_to_point_in_time())

    def restore_db_instance_from_db_snapshot(self) -> ActionResult:
        return self._restored(super().restore_db_instance_from_db_snapshot())

    def _restored(self, result: ActionResult) -> ActionResult:
        """Remove what moto copies: RDS does not manage a restored instance's password, and it is not a replica."""
        answer: Any = result._result
        vars(answer["DBInstance"]).pop("master_user_secret", None)
        answer["DBInstance"].source_db_instance_identifier = None
        return self._identified(result)

    def modify_db_instance(self) -> ActionResult:
        return self._observed(super().modify_db_instance())

    def _identified(self, result: ActionResult) -> ActionResult:
        answer: Any = result._result
        instance = answer["DBInstance"]
        name = self.params.get("TargetDBInstanceIdentifier") or self.params["DBInstanceIdentifier"]
        # Only letters and digits, because the provider would use any other id as an instance's name.
        instance.dbi_resource_id = "db-" + name.replace("-", "").upper()
        if "." not in instance.engine_version:
            instance.engine_version += _MINOR
        return self._observed(result)

    def _observed(self, result: ActionResult) -> ActionResult:
        answer: Any = result._result
        for member, attribute in {
            "EnablePerformanceInsights": "performance_insights_enabled",
            "PerformanceInsightsKMSKeyId": "performance_insights_kms_key_id",
            "PerformanceInsightsRetentionPeriod": "performance_insights_retention_period",
            "DatabaseInsightsMode": "database_insights_mode",
        }.items():
            if (value := self.params.get(member)) is not None:
                setattr(answer["DBInstance"], attribute, value)
        return result

    def describe_db_parameters(self) -> ActionResult:
        """Return the parameters that were set. RDS reports one that equals its default as `pending-reboot`."""
        (group,) = self.backend.describe_db_parameter_groups(
            {"db_parameter_group_name": self.params["DBParameterGroupName"]}
        )
        return ActionResult({"Parameters": [_as_kept(each) for each in group.parameters.values()]})

    def modify_event_subscription(self) -> ActionResult:
        subscription = self._subscription()
        subscription.event_categories = self.params.get("EventCategories", subscription.event_categories)
        subscription.sns_topic_arn = self.params.get("SnsTopicArn", subscription.sns_topic_arn)
        return ActionResult({"EventSubscription": subscription})

    def add_source_identifier_to_subscription(self) -> ActionResult:
        subscription = self._subscription()
        subscription.source_ids = [*subscription.source_ids, self.params["SourceIdentifier"]]
        return ActionResult({"EventSubscription": subscription})

    def remove_source_identifier_from_subscription(self) -> ActionResult:
        subscription = self._subscription()
        subscription.source_ids = [
            each for each in subscription.source_ids if each != self.params["SourceIdentifier"]
        ]
        return ActionResult({"EventSubscription": subscription})

    def _subscription(self) -> Any:
        (found,) = self.backend.describe_event_subscriptions(self.params["SubscriptionName"])
        return found

    def reset_db_parameter_group(self) -> ActionResult:
        name = self.params["DBParameterGroupName"]
        (group,) = self.backend.describe_db_parameter_groups({"db_parameter_group_name": name})
        for each in self.params.get("Parameters", []):
            group.parameters.pop(each["ParameterName"], None)
        return ActionResult({"DBParameterGroupName": name})


def _as_kept(parameter: dict[str, Any]) -> dict[str, Any]:
    kept = {"Source": "user", "IsModifiable": True} | parameter
    if rds_defaults.is_default(parameter["ParameterName"], parameter["ParameterValue"]):
        kept["ApplyMethod"] = "pending-reboot"
    return kept


class Ecr(ECRResponse):
    """Repositories that have every image, so that the program neither builds nor pushes one."""

    def batch_get_image(self) -> ActionResult:
        tags = [each["imageTag"] for each in self._get_param("imageIds")]
        images = [{"imageId": {"imageTag": tag, "imageDigest": _DIGEST}} for tag in tags]
        return ActionResult({"images": images, "failures": []})


class Ecs(EC2ContainerServiceResponse):
    """Tasks that have succeeded when they are described, and services whose deployments succeed at once.

    moto cannot run a task on Fargate whose containers have no memory limit.
    """

    def run_task(self) -> ActionResult:
        definition = self.ecs_backend.describe_task_definition(self._get_param("taskDefinition"))
        cluster = self._get_param("cluster").rpartition("/")[2]
        arn = f"arn:aws:ecs:{self.region}:{self.current_account}:task/{cluster}/{len(_tasks):032x}"
        _tasks[arn] = {
            "taskArn": arn,
            "lastStatus": "STOPPED",
            "containers": [
                {"name": each["name"], "exitCode": 0} for each in definition.container_definitions
            ],
        }
        return ActionResult({"tasks": [_tasks[arn]], "failures": []})

    def list_tasks(self) -> ActionResult:
        """Return no task: none is running."""
        return ActionResult({"taskArns": []})

    def describe_tasks(self) -> ActionResult:
        return ActionResult({"tasks": [_tasks[arn] for arn in self._get_param("tasks")], "failures": []})

    def create_service(self) -> ActionResult:
        result = super().create_service()
        self._complete(self._get_param("cluster"), self._get_param("serviceName"))
        return result

    def update_service(self) -> ActionResult:
        cluster, name = self._get_param("cluster"), self._get_param("service")
        result = super().update_service()
        self._complete(cluster, name)
        return result

    def _complete(self, cluster: str, name: str) -> None:
        (service,), _ = self.ecs_backend.describe_services(cluster, [name])
        for member, attribute in {
            "deploymentConfiguration": "deployment_configuration",
            "availabilityZoneRebalancing": "availability_zone_rebalancing",
            "enableECSManagedTags": "enable_ecs_managed_tags",
            "enableExecuteCommand": "enable_execute_command",
        }.items():
            if (value := self._get_param(member)) is not None:
                setattr(service, attribute, value)
        service.running_count, service.pending_count = service.desired_count, 0
        service.deployments = service.deployments[:1]
        service.deployments[0] |= {
            "runningCount": service.desired_count,
            "pendingCount": 0,
            "rolloutState": "COMPLETED",
            "taskDefinition": service.task_definition,
        }


def recorded(file: Path) -> Callable[[BaseResponse], Any]:
    """Return a method that answers a request, and appends the name of a new action to the file."""
    answer, known = BaseResponse.call_action, set[str]()

    def call_action(self: BaseResponse) -> Any:
        action = f"{self.service_name}:{self._get_action()}"
        if action not in known:
            known.add(action)
            with file.open("a") as opened:
                opened.write(f"{action}\n")
        return answer(self)

    return call_action


def main() -> None:
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    replaced: tuple[tuple[Any, type[BaseResponse]], ...] = (
        (moto.ec2.urls, Ec2),
        (moto.ecr.urls, Ecr),
        (moto.ecs.urls, Ecs),
        (moto.elasticache.urls, ElastiCache),
        (moto.rds.urls, Rds),
    )
    for urls, handler in replaced:
        urls.url_paths = dict.fromkeys(urls.url_paths, handler.dispatch)
    BaseResponse.call_action = recorded(Path(sys.argv[1]))  # type: ignore[method-assign]
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
