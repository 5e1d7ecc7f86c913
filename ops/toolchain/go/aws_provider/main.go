// Command pulumi-resource-aws serves the AWS resources of a groundwork stack to Pulumi, under the type tokens and
// property names of the pulumi-aws Python package, with HashiCorp's Terraform provider as a child process.
//
// Tests use it to run the program with the provider's real code. It has only the resources that the program
// uses, and it is not the plugin that deploys to an account.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/pulumi/pulumi-terraform-bridge/v3/dynamic/shim"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/proto"
	pfbridge "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfgen"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
)

// version is that of the pulumi-aws Python package, which the build sets: the engine asks for a plugin of it.
var version = "0.0.0"

func main() {
	if err := serve(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "pulumi-resource-aws:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	// The Terraform provider is in the same folder, under the name that its release has.
	server, err := shim.Start(ctx, filepath.Join(filepath.Dir(executable), "terraform-provider-aws"))
	if err != nil {
		return fmt.Errorf("starting the Terraform provider: %w", err)
	}
	defer server.Close()
	// The engine ends a plugin by a signal. The Terraform provider ignores signals.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		server.Close()
		os.Exit(0)
	}()
	info := provider(ctx, server)
	generated, err := tfgen.GenerateSchema(ctx, tfgen.GenerateSchemaOptions{
		ProviderInfo:    info,
		DiagnosticsSink: diag.DefaultSink(os.Stderr, os.Stderr, diag.FormatOptions{Color: colors.Never}),
		// The Terraform provider's documentation is not part of its release.
		XInMemoryDocs: true,
	})
	if err != nil {
		return fmt.Errorf("making the schema: %w", err)
	}
	pfbridge.Main(ctx, "aws", info, generated.ProviderMetadata)
	return nil
}

// provider maps the Terraform resources to Pulumi's names for them.
func provider(ctx context.Context, server shim.Server) tfbridge.ProviderInfo {
	return tfbridge.ProviderInfo{
		Name:           "aws",
		Version:        version,
		ResourcePrefix: "aws",
		P:              proto.New(ctx, used{server}),
		Config: map[string]*tfbridge.SchemaInfo{
			"default_tags": {MaxItemsOne: tfbridge.True()},
		},
		Resources: resources,
		DataSources: map[string]*tfbridge.DataSourceInfo{
			"aws_caller_identity": {Tok: "aws:index/getCallerIdentity:getCallerIdentity"},
		},
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
	}
}
