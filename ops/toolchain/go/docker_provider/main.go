// Command pulumi-resource-docker serves the Docker resources of a groundwork stack to Pulumi: containers,
// images, networks and volumes, under the type tokens and property names of the pulumi-docker Python package.
//
// It stands in for the released plugin of the same version where that cannot be downloaded. Resources and
// functions that groundwork does not use (swarm services, registry look-ups, buildx) are left out.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
	tfshim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim"
	sdkv2 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag"
	"github.com/pulumi/pulumi/sdk/v3/go/common/diag/colors"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-providers/terraform-provider-docker/shim"
)

// version is that of the pulumi-docker package in requirements.lock: the engine asks for a plugin of it.
const version = "5.2.0"

func main() {
	info := provider()
	schema, err := schemaOf(info)
	if err != nil {
		// Not log.Fatal: the provider silences the log package, and the engine would only see an exit code.
		fmt.Fprintln(os.Stderr, "pulumi-resource-docker:", err)
		os.Exit(1)
	}
	tfbridge.Main("docker", version, info, schema)
}

// provider maps the Terraform resources to Pulumi's names for them.
func provider() tfbridge.ProviderInfo {
	upstream := sdkv2.NewProvider(shim.New(version))
	return tfbridge.ProviderInfo{
		Name:    "docker",
		Version: version,
		P:       upstream,
		Config: map[string]*tfbridge.SchemaInfo{
			// A list in the released plugin, although upstream allows one element only.
			"registry_auth": {Name: "registryAuth", MaxItemsOne: tfbridge.False()},
		},
		Resources: map[string]*tfbridge.ResourceInfo{
			"docker_container": {
				Tok: token("container", "Container"),
				// Two containers cannot publish one port, nor carry one name: the old one goes first.
				DeleteBeforeReplace: true,
				Fields: map[string]*tfbridge.SchemaInfo{
					// The bridge would make plurals of both.
					"command":           {Name: "command"},
					"networks_advanced": {Name: "networksAdvanced"},
				},
			},
			"docker_image": {
				Tok: token("remoteImage", "RemoteImage"),
				// Named by the program: an automatic name would carry random digits.
				Fields: map[string]*tfbridge.SchemaInfo{"name": {Name: "name"}},
			},
			"docker_network": {Tok: token("network", "Network")},
			"docker_volume":  {Tok: token("volume", "Volume")},
		},
		// The bridge refuses a provider with names that are neither mapped nor ignored. Listing the mapped
		// ones besides does no harm.
		IgnoreMappings: names(upstream),
		MetadataInfo:   tfbridge.NewProviderMetadata([]byte("{}")),
	}
}

func token(module, name string) tokens.Type {
	return tokens.Type("docker:index/" + module + ":" + name)
}

// names lists every resource and data source upstream has.
func names(upstream tfshim.Provider) []string {
	var all []string
	collect := func(name string, _ tfshim.Resource) bool {
		all = append(all, name)
		return true
	}
	upstream.ResourcesMap().Range(collect)
	upstream.DataSourcesMap().Range(collect)
	return all
}

// schemaOf makes the package's schema at start, which the released plugin carries ready-made: it takes less
// than a second, and spares a generated file of some megabytes.
func schemaOf(info tfbridge.ProviderInfo) ([]byte, error) {
	generated, err := tfgen.GenerateSchemaWithOptions(tfgen.GenerateSchemaOptions{
		ProviderInfo:    info,
		DiagnosticsSink: diag.DefaultSink(os.Stderr, os.Stderr, diag.FormatOptions{Color: colors.Never}),
		// Upstream's documentation is no part of its Go module.
		XInMemoryDocs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("making the schema: %w", err)
	}
	return json.Marshal(generated.PackageSpec)
}
