"""The resource types of pulumi-aws that the rules name."""

from __future__ import annotations

from typing import Final

RDS_INSTANCE: Final = "aws:rds/instance:Instance"
RDS_PARAMETER_GROUP: Final = "aws:rds/parameterGroup:ParameterGroup"
RDS_SUBNET_GROUP: Final = "aws:rds/subnetGroup:SubnetGroup"
RDS_SUBSCRIPTION: Final = "aws:rds/eventSubscription:EventSubscription"
REDIS_GROUP: Final = "aws:elasticache/replicationGroup:ReplicationGroup"
REDIS_PARAMETER_GROUP: Final = "aws:elasticache/parameterGroup:ParameterGroup"
REDIS_SUBNET_GROUP: Final = "aws:elasticache/subnetGroup:SubnetGroup"
REDIS_USER: Final = "aws:elasticache/user:User"
REDIS_USER_GROUP: Final = "aws:elasticache/userGroup:UserGroup"

VPC: Final = "aws:ec2/vpc:Vpc"
SUBNET: Final = "aws:ec2/subnet:Subnet"
ROUTE: Final = "aws:ec2/route:Route"
ROUTE_TABLE: Final = "aws:ec2/routeTable:RouteTable"
DEFAULT_ROUTE_TABLE: Final = "aws:ec2/defaultRouteTable:DefaultRouteTable"
MAIN_ASSOCIATION: Final = "aws:ec2/mainRouteTableAssociation:MainRouteTableAssociation"
ASSOCIATION: Final = "aws:ec2/routeTableAssociation:RouteTableAssociation"
INTERNET_GATEWAY: Final = "aws:ec2/internetGateway:InternetGateway"
SECURITY_GROUP: Final = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_SECURITY_GROUP: Final = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
SECURITY_GROUP_RULE: Final = "aws:ec2/securityGroupRule:SecurityGroupRule"
INGRESS_RULE: Final = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"

KEY: Final = "aws:kms/key:Key"
ROLE: Final = "aws:iam/role:Role"
SECRET: Final = "aws:secretsmanager/secret:Secret"
SECRET_ROTATION: Final = "aws:secretsmanager/secretRotation:SecretRotation"
TOPIC: Final = "aws:sns/topic:Topic"

# Data stores for which no rules exist.
UNRULED: Final = (
    "aws:docdb/cluster:Cluster",
    "aws:dynamodb/table:Table",
    "aws:elasticache/cluster:Cluster",
    "aws:elasticache/serverlessCache:ServerlessCache",
    "aws:memorydb/cluster:Cluster",
    "aws:rds/cluster:Cluster",
    "aws:rds/clusterInstance:ClusterInstance",
)
