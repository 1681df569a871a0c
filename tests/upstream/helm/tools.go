//go:build tools

// Package helm names the command that `make upstream` builds.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
