"""A model of ElastiCache for moto's server, which lacks most of the calls that the provider makes.

The answers have the members and the errors that AWS documents (https://docs.aws.amazon.com/AmazonElastiCache/latest/APIReference).
Everything that was created is available at once.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.elasticache.exceptions import ElastiCacheException
from moto.elasticache.responses import ElastiCacheResponse

from infra.spec import elasticache

Resource = dict[str, Any]
# Kind of resource -> its name in ARNs, and the error code if no resource has the requested name.
_KINDS = {
    "CacheParameterGroup": ("parametergroup", "CacheParameterGroupNotFound"),
    "CacheSubnetGroup": ("subnetgroup", "CacheSubnetGroupNotFoundFault"),
    "User": ("user", "UserNotFound"),
    "UserGroup": ("usergroup", "UserGroupNotFound"),
    "ReplicationGroup": ("replicationgroup", "ReplicationGroupNotFoundFault"),
    "CacheCluster": ("cluster", "CacheClusterNotFound"),
}
_store: dict[str, dict[str, Resource]] = {kind: {} for kind in _KINDS}
_tags: dict[str, dict[str, str]] = {}
_parameters: dict[str, dict[str, str]] = {}


class ElastiCache(ElastiCacheResponse):
    """Answers instead of moto's class. All resources belong to one account and one region."""

    def create_cache_parameter_group(self) -> ActionResult:
        return self._created("CacheParameterGroup", "CacheParameterGroupName", self._given("Description"))

    def describe_cache_parameter_groups(self) -> ActionResult:
        return self._listed("CacheParameterGroup", "CacheParameterGroupName")

    def modify_cache_parameter_group(self) -> ActionResult:
        name = self.params["CacheParameterGroupName"]
        _found("CacheParameterGroup", name)
        values = _parameters.setdefault(name, {})
        values |= {p["ParameterName"]: p["ParameterValue"] for p in self.params["ParameterNameValues"]}
        return ActionResult({"CacheParameterGroupName": name})

    def reset_cache_parameter_group(self) -> ActionResult:
        name = self.params["CacheParameterGroupName"]
        for parameter in self.params.get("ParameterNameValues", []):
            _parameters[name].pop(parameter["ParameterName"], None)
        return ActionResult({"CacheParameterGroupName": name})

    def describe_cache_parameters(self) -> ActionResult:
        """Return the parameters whose source is `user`: those whose value is not the default."""
        values = _parameters.get(self.params["CacheParameterGroupName"], {})
        return ActionResult(
            {
                "Parameters": [
                    {"ParameterName": name, "ParameterValue": value, "Source": "user", "IsModifiable": True}
                    for name, value in values.items()
                    if value != elasticache.DEFAULTS.get(name)
                ]
            }
        )

    def delete_cache_parameter_group(self) -> ActionResult:
        name = self.params["CacheParameterGroupName"]
        if any(_parameter_group(node) == name for node in _store["CacheCluster"].values()):
            raise ElastiCacheException("InvalidCacheParameterGroupState", f"{name} is used by a cluster.")
        _parameters.pop(self.params["CacheParameterGroupName"], None)
        return self._deleted("CacheParameterGroup", "CacheParameterGroupName")

    def create_cache_subnet_group(self) -> ActionResult:
        subnets = [{"SubnetIdentifier": each} for each in self.params["SubnetIds"]]
        extra = {"VpcId": "vpc-0a1b2c3d", "SupportedNetworkTypes": ["ipv4"], "Subnets": subnets}
        return self._created("CacheSubnetGroup", "CacheSubnetGroupName", extra)

    def describe_cache_subnet_groups(self) -> ActionResult:
        return self._listed("CacheSubnetGroup", "CacheSubnetGroupName")

    def delete_cache_subnet_group(self) -> ActionResult:
        return self._deleted("CacheSubnetGroup", "CacheSubnetGroupName")

    def create_user(self) -> ActionResult:
        """Create a user. AWS calls the mode of a user without a password `no-password`."""
        mode = self.params.get("AuthenticationMode", {}).get("Type")
        if self.params.get("NoPasswordRequired") or mode == "no-password-required":
            mode = "no-password"
        extra = {
            "Status": "active",
            "MinimumEngineVersion": "6.0",
            "UserGroupIds": [],
            "Authentication": {"Type": mode},
        }
        return self._created("User", "UserId", extra, bare=True)

    def describe_users(self) -> ActionResult:
        return self._listed("User", "UserId")

    def modify_user(self) -> ActionResult:
        user = _found("User", self.params["UserId"])
        user |= self._given("AccessString", "Engine")
        return ActionResult(user)

    def delete_user(self) -> ActionResult:
        return self._deleted("User", "UserId", bare=True)

    def create_user_group(self) -> ActionResult:
        for user in self.params["UserIds"]:
            _found("User", user)["UserGroupIds"].append(self.params["UserGroupId"])
        extra = {"Status": "active", "MinimumEngineVersion": "6.0", "ReplicationGroups": []}
        return self._created("UserGroup", "UserGroupId", extra, bare=True)

    def describe_user_groups(self) -> ActionResult:
        return self._listed("UserGroup", "UserGroupId")

    def modify_user_group(self) -> ActionResult:
        group = _found("UserGroup", self.params["UserGroupId"])
        removed = self.params.get("UserIdsToRemove", [])
        group["UserIds"] = [each for each in group["UserIds"] if each not in removed]
        group["UserIds"] += self.params.get("UserIdsToAdd", [])
        return ActionResult(group)

    def delete_user_group(self) -> ActionResult:
        for user in _store["User"].values():
            if self.params["UserGroupId"] in user["UserGroupIds"]:
                user["UserGroupIds"].remove(self.params["UserGroupId"])
        return self._deleted("UserGroup", "UserGroupId", bare=True)

    def create_replication_group(self) -> ActionResult:
        """Create the group and its nodes, all in the same node group: cluster mode is disabled."""
        name, port = self.params["ReplicationGroupId"], self.params["Port"]
        nodes = [f"{name}-{n + 1:03}" for n in range(self.params["NumCacheClusters"])]
        for node in nodes:
            self._make_node(node, name, port)
        members = [
            {
                "CacheClusterId": node,
                "CacheNodeId": "0001",
                "ReadEndpoint": _endpoint(node, port),
                "CurrentRole": "replica" if n else "primary",
            }
            for n, node in enumerate(nodes)
        ]
        extra = {
            "Status": "available",
            "Description": self.params["ReplicationGroupDescription"],
            "MemberClusters": nodes,
            "NodeGroups": [
                {
                    "NodeGroupId": "0001",
                    "Status": "available",
                    "PrimaryEndpoint": _endpoint(f"master.{name}", port),
                    "ReaderEndpoint": _endpoint(f"replica.{name}", port),
                    "NodeGroupMembers": members,
                }
            ],
            "AutomaticFailover": _state(self.params.get("AutomaticFailoverEnabled")),
            "MultiAZ": _state(self.params.get("MultiAZEnabled")),
            "ClusterEnabled": False,
            "ClusterMode": "disabled",
            "AuthTokenEnabled": False,
            "DataTiering": "disabled",
            "NetworkType": "ipv4",
            "IpDiscovery": "ipv4",
            "LogDeliveryConfigurations": [
                each | {"Status": "active"} for each in self.params.get("LogDeliveryConfigurations", [])
            ],
        }
        return self._created("ReplicationGroup", "ReplicationGroupId", extra)

    def _make_node(self, node: str, group: str, port: int) -> None:
        given = self.params
        self._keep(
            "CacheCluster",
            node,
            self._given("CacheNodeType", "AutoMinorVersionUpgrade", "PreferredMaintenanceWindow")
            | self._engine()
            | self._given("CacheSubnetGroupName", "SnapshotRetentionLimit", "SnapshotWindow")
            | self._given("AtRestEncryptionEnabled", "TransitEncryptionEnabled", "TransitEncryptionMode")
            | {
                "CacheClusterId": node,
                "ReplicationGroupId": group,
                "CacheClusterStatus": "available",
                "NumCacheNodes": 1,
                "CacheNodes": [{"CacheNodeId": "0001", "Endpoint": _endpoint(node, port)}],
                "NotificationConfiguration": {
                    "TopicArn": given.get("NotificationTopicArn"),
                    "TopicStatus": "active",
                },
                "SecurityGroups": [
                    {"SecurityGroupId": each, "Status": "active"} for each in given["SecurityGroupIds"]
                ],
            },
        )

    def describe_replication_groups(self) -> ActionResult:
        return self._listed("ReplicationGroup", "ReplicationGroupId")

    def modify_replication_group(self) -> ActionResult:
        """Change the group and its nodes. As on AWS, node type and engine wait for the maintenance window."""
        group = _found("ReplicationGroup", self.params["ReplicationGroupId"])
        changed = self._given("SnapshotRetentionLimit", "SnapshotWindow", "AutoMinorVersionUpgrade")
        group |= changed
        if "ReplicationGroupDescription" in self.params:
            group["Description"] = self.params["ReplicationGroupDescription"]
        if self.params.get("ApplyImmediately"):
            group |= self._given("Engine")
            changed |= self._engine()
        for node in group["MemberClusters"]:
            _store["CacheCluster"][node] |= changed | self._given("PreferredMaintenanceWindow")
        return ActionResult({"ReplicationGroup": group})

    def delete_replication_group(self) -> ActionResult:
        for node in _found("ReplicationGroup", self.params["ReplicationGroupId"])["MemberClusters"]:
            del _store["CacheCluster"][node]
        return self._deleted("ReplicationGroup", "ReplicationGroupId")

    def describe_cache_clusters(self) -> ActionResult:
        return self._listed("CacheCluster", "CacheClusterId")

    def list_tags_for_resource(self) -> ActionResult:
        tags = _tags.get(self.params["ResourceName"], {})
        return ActionResult({"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]})

    def add_tags_to_resource(self) -> ActionResult:
        _tags[self.params["ResourceName"]] |= {each["Key"]: each["Value"] for each in self.params["Tags"]}
        return EmptyResult()

    def remove_tags_from_resource(self) -> ActionResult:
        for key in self.params["TagKeys"]:
            _tags[self.params["ResourceName"]].pop(key, None)
        return EmptyResult()

    def _engine(self) -> Resource:
        """Return a node's engine and its parameters. AWS installs a minor version of the requested one."""
        parameters = {
            "CacheParameterGroupName": self.params["CacheParameterGroupName"],
            "ParameterApplyStatus": "in-sync",
        }
        version = f"{self.params['EngineVersion']}.0"
        return self._given("Engine") | {"EngineVersion": version, "CacheParameterGroup": parameters}

    def _given(self, *names: str) -> Resource:
        return {name: self.params[name] for name in names if name in self.params}

    def _keep(self, kind: str, name: str, resource: Resource) -> Resource:
        arn = f"arn:aws:elasticache:{self.region}:{self.current_account}:{_KINDS[kind][0]}:{name}"
        _tags[arn] = {each["Key"]: each["Value"] for each in self.params.get("Tags", [])}
        _store[kind][name] = resource | {"ARN": arn}
        return _store[kind][name]

    def _created(self, kind: str, key: str, extra: Resource, *, bare: bool = False) -> ActionResult:
        """Store the members of the request, and those that AWS adds. With `bare`, the answer is the resource itself."""
        resource = self._keep(kind, self.params[key], dict(self.params) | extra)
        return ActionResult(resource if bare else {kind: resource})

    def _listed(self, kind: str, key: str) -> ActionResult:
        name = self.params.get(key)
        found = [_found(kind, name)] if name else list(_store[kind].values())
        return ActionResult({f"{kind}s": found})

    def _deleted(self, kind: str, key: str, *, bare: bool = False) -> ActionResult:
        resource = _found(kind, self.params[key])
        del _store[kind][self.params[key]]
        return ActionResult(resource if bare else {kind: resource})


def _found(kind: str, name: str) -> Resource:
    if name not in _store[kind]:
        raise ElastiCacheException(_KINDS[kind][1], f"{kind} {name} not found.")
    return _store[kind][name]


def _parameter_group(node: Resource) -> str:
    return str(node["CacheParameterGroup"]["CacheParameterGroupName"])


def _endpoint(host: str, port: int) -> Resource:
    return {"Address": f"{host}.abc.euc1.cache.amazonaws.com", "Port": port}


def _state(is_enabled: bool | None) -> str:
    return "enabled" if is_enabled else "disabled"
