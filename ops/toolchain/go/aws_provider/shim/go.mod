// Nested under the bridge's own path, which is what lets this module import its internal package.
module github.com/pulumi/pulumi-terraform-bridge/v3/dynamic/shim

go 1.25.11

require (
	github.com/hashicorp/terraform-plugin-go v0.31.0
	github.com/pulumi/pulumi-terraform-bridge/v3 v3.137.0
)
