//go:build tools

// Package tools names what this module is there to build. It is never compiled (no build sets the
// tag): the imports keep `go mod tidy` from dropping the requirements.
package tools

import (
	_ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"

	// The scripts beside the Python SDK (python/cmd, python/dist) are taken from this module's folder.
	_ "github.com/pulumi/pulumi/sdk/v3/go/common/version"
)
