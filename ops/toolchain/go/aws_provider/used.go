package main

import (
	"context"
	"maps"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/pulumi/pulumi-terraform-bridge/v3/dynamic/shim"
)

// used is a Terraform provider whose schema has only the resources that the program uses. The bridge refuses a
// provider with resources that are not mapped.
type used struct{ shim.Server }

func (u used) GetProviderSchema(
	ctx context.Context, request *tfprotov6.GetProviderSchemaRequest,
) (*tfprotov6.GetProviderSchemaResponse, error) {
	response, err := u.Server.GetProviderSchema(ctx, request)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(response.ResourceSchemas, func(name string, _ *tfprotov6.Schema) bool {
		return resources[name] == nil
	})
	for _, schema := range response.ResourceSchemas {
		for _, attribute := range schema.Block.Attributes {
			if attribute.Name == "id" {
				// The plugin SDK declares the id as optional, but nobody sets it, and the bridge refuses such an id.
				attribute.Optional = false
			}
		}
	}
	maps.DeleteFunc(response.DataSourceSchemas, func(name string, _ *tfprotov6.Schema) bool {
		return name != "aws_caller_identity"
	})
	response.Functions, response.EphemeralResourceSchemas = nil, nil
	response.ListResourceSchemas, response.ActionSchemas = nil, nil
	return response, nil
}
