package main

import (
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
)

// resources are the Terraform resources that the program uses. The bridge derives the names of properties, except
// those in Fields.
var resources = map[string]*tfbridge.ResourceInfo{
	"aws_cloudwatch_dashboard":                      {Tok: token("cloudwatch", "Dashboard")},
	"aws_cloudwatch_log_group":                      {Tok: token("cloudwatch", "LogGroup")},
	"aws_cloudwatch_log_metric_filter":              {Tok: token("cloudwatch", "LogMetricFilter")},
	"aws_cloudwatch_metric_alarm":                   {Tok: token("cloudwatch", "MetricAlarm"), Fields: renamed("alarm_name", "name")},
	"aws_db_event_subscription":                     {Tok: token("rds", "EventSubscription")},
	"aws_db_instance":                               {Tok: token("rds", "Instance")},
	"aws_db_instance_automated_backups_replication": {Tok: token("rds", "InstanceAutomatedBackupsReplication")},
	"aws_db_parameter_group":                        {Tok: token("rds", "ParameterGroup")},
	"aws_db_subnet_group":                           {Tok: token("rds", "SubnetGroup")},
	"aws_default_security_group":                    {Tok: token("ec2", "DefaultSecurityGroup"), Fields: rules},
	"aws_ecr_lifecycle_policy":                      {Tok: token("ecr", "LifecyclePolicy")},
	"aws_ecr_repository":                            {Tok: token("ecr", "Repository")},
	"aws_ecs_cluster":                               {Tok: token("ecs", "Cluster")},
	"aws_ecs_service":                               {Tok: token("ecs", "Service")},
	"aws_ecs_task_definition":                       {Tok: token("ecs", "TaskDefinition")},
	"aws_elasticache_parameter_group":               {Tok: token("elasticache", "ParameterGroup")},
	"aws_elasticache_replication_group":             {Tok: token("elasticache", "ReplicationGroup")},
	"aws_elasticache_subnet_group":                  {Tok: token("elasticache", "SubnetGroup")},
	"aws_elasticache_user":                          {Tok: token("elasticache", "User")},
	"aws_elasticache_user_group":                    {Tok: token("elasticache", "UserGroup")},
	"aws_iam_policy":                                {Tok: token("iam", "Policy")},
	"aws_iam_role":                                  {Tok: token("iam", "Role")},
	"aws_iam_role_policy":                           {Tok: token("iam", "RolePolicy"), Fields: named},
	"aws_iam_role_policy_attachment":                {Tok: token("iam", "RolePolicyAttachment")},
	"aws_kms_alias":                                 {Tok: token("kms", "Alias")},
	"aws_kms_key":                                   {Tok: token("kms", "Key")},
	"aws_route_table":                               {Tok: token("ec2", "RouteTable")},
	"aws_route_table_association":                   {Tok: token("ec2", "RouteTableAssociation")},
	"aws_secretsmanager_secret":                     {Tok: token("secretsmanager", "Secret")},
	"aws_secretsmanager_secret_version":             {Tok: token("secretsmanager", "SecretVersion")},
	"aws_security_group":                            {Tok: token("ec2", "SecurityGroup"), Fields: namedRules},
	"aws_service_discovery_private_dns_namespace":   {Tok: token("servicediscovery", "PrivateDnsNamespace")},
	"aws_service_discovery_service":                 {Tok: token("servicediscovery", "Service")},
	"aws_sns_topic":                                 {Tok: token("sns", "Topic")},
	"aws_sns_topic_policy":                          {Tok: token("sns", "TopicPolicy")},
	"aws_sns_topic_subscription":                    {Tok: token("sns", "TopicSubscription"), Fields: renamed("topic_arn", "topic")},
	"aws_subnet":                                    {Tok: token("ec2", "Subnet")},
	"aws_vpc":                                       {Tok: token("ec2", "Vpc")},
	"aws_vpc_endpoint":                              {Tok: token("ec2", "VpcEndpoint")},
	"aws_vpc_security_group_egress_rule":            {Tok: token("vpc", "SecurityGroupEgressRule")},
	"aws_vpc_security_group_ingress_rule":           {Tok: token("vpc", "SecurityGroupIngressRule")},
}

// token returns Pulumi's name of a type.
func token(module, name string) tokens.Type {
	return tfbridge.MakeResource("aws", module, name)
}

// renamed returns the fields of a resource with one property that Pulumi calls differently.
func renamed(field, name string) map[string]*tfbridge.SchemaInfo {
	return map[string]*tfbridge.SchemaInfo{field: {Name: name}}
}

var (
	// autoname gives a resource without a name its name in the program, and seven random digits.
	autoname = tfbridge.AutoName("name", 255, "-")
	// The bridge would make plurals of both.
	ingress, egress = &tfbridge.SchemaInfo{Name: "ingress"}, &tfbridge.SchemaInfo{Name: "egress"}
	rules           = map[string]*tfbridge.SchemaInfo{"ingress": ingress, "egress": egress}
	namedRules      = map[string]*tfbridge.SchemaInfo{"ingress": ingress, "egress": egress, "name": autoname}
	named           = map[string]*tfbridge.SchemaInfo{"name": autoname}
)
