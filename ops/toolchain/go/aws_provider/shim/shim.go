// Package shim starts a Terraform provider, which the bridge keeps internal.
package shim

import (
	"context"
	"io"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/pulumi/pulumi-terraform-bridge/v3/dynamic/internal/shim/run"
)

// Server is a running Terraform provider. Close ends its process.
type Server interface {
	tfprotov6.ProviderServer
	io.Closer
}

// Start runs the executable that the folder of path has for the provider: folder/terraform-provider-NAME.
func Start(ctx context.Context, path string) (Server, error) {
	return run.LocalProvider(ctx, path)
}
