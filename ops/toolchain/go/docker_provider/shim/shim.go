// Package shim hands out the Terraform provider for Docker, which its authors keep internal.
package shim

import (
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// New returns the provider; version is what it reports of itself.
func New(version string) *schema.Provider {
	return provider.New(version)()
}
